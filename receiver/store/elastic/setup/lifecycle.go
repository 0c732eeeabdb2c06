package setup

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/tidwall/gjson"
)

// lifecycle sees to the policy that deletes old indices: ILM on Elasticsearch,
// ISM on OpenSearch. Dead letters have none: they go when they are replayed.
func (r *runner) lifecycle(openSearch bool) error {
	policy := "wsrelay-" + r.set()
	retain := component("wsrelay-retain-"+r.set(), `{"template":{}}`)
	retain.keep = true // without --retain, and with ISM, which needs nothing there
	hot, kept := "", ""
	if r.Stream != "" { // days by themselves end only with indices of days
		hot, kept = `"rollover":{"max_age":"1d","max_size":"50gb"}`, `{"rollover":{"min_index_age":"1d","min_size":"50gb"}}`
	}
	probe, has, o := "/_ilm/status", "operation_mode", object{
		name: fmt.Sprintf("lifecycle policy %s (ILM): delete after %d days", policy, r.Days),
		path: "/_ilm/policy/" + policy, in: policy,
		body: fmt.Sprintf(`{"policy":{"phases":{"hot":{"actions":{%s}},"delete":{"min_age":"%dd","actions":{"delete":{}}}}}}`, hot, r.Days),
	}
	if openSearch {
		probe, has, o = "/_plugins/_ism/policies", "@this", object{
			name: fmt.Sprintf("lifecycle policy %s (ISM): delete after %d days", policy, r.Days),
			path: "/_plugins/_ism/policies/" + policy, in: "@this",
			body: fmt.Sprintf(`{"policy":{"description":"wsrelay: lines","default_state":"kept","states":[`+
				`{"name":"kept","actions":[%s],"transitions":[{"state_name":"deleted","conditions":{"min_index_age":"%dd"}}]},`+
				`{"name":"deleted","actions":[{"delete":{}}],"transitions":[]}],`+
				`"ism_template":[{"index_patterns":["%s"],"priority":300}]}}`, kept, r.Days,
				strings.Join(r.indices(), `","`)),
		}
	}
	if r.Days == 0 {
		r.report("note", "lifecycle policy: not asked for (--retain), what is there stays")
		return r.put(retain)
	}
	managed, err := r.answers(probe, has)
	switch {
	case err != nil:
		return fmt.Errorf("look for lifecycle management: %w", err)
	case !managed:
		r.report("warning", "lifecycle policy: this engine has neither ILM nor ISM, old indices are not deleted")
		return r.put(retain)
	case !openSearch:
		retain = component("wsrelay-retain-"+r.set(), `{"template":{"settings":{"index":{"lifecycle":{"name":"`+policy+`"}}}}}`)
	}
	if err := r.put(o); err != nil {
		return err
	}
	return r.put(retain)
}

// answers reports whether the engine answers at path with the member has.
// Without the feature it takes the path for another request, and refuses that.
func (r *runner) answers(path, has string) (bool, error) {
	answer, err := r.client.Do(r.ctx, http.MethodGet, path, nil)
	if err != nil && !hasStatus(err, http.StatusBadRequest) && !hasStatus(err, http.StatusNotFound) &&
		!hasStatus(err, http.StatusMethodNotAllowed) {
		return false, err
	}
	return err == nil && gjson.GetBytes(answer, has).Exists(), nil
}
