// Package setup prepares an engine for the lines that [elastic.Store] writes:
// templates, so that their fields have the types of the Elastic Common Schema,
// a lifecycle policy, and dashboards.
//
// # Guarantees
//
//  1. What is there and as it should be is not written again: a second run
//     changes nothing. What is there and differs is replaced.
//  2. Nothing is deleted, and no index or document is touched. Templates and
//     policies hold for indices that are made from then on.
//  3. The component template wsrelay-custom, where an administrator's own
//     settings and fields go, is made empty once and then left alone.
package setup

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/receiver/store/elastic"
)

//go:embed ecs.json
var ecs string

// Refresh is how long it takes, at most, until a stored line is found.
const Refresh = 2 * time.Second

// Options of Run.
type Options struct {
	Prefix string     // as elastic.CheckPrefix wants it
	Stream string     // a data stream instead, as elastic.CheckDataStream wants it; default: none
	Days   int        // delete indices that are older; 0: leave the policy as it is
	DryRun bool       // change nothing, only report
	Report func(Step) // takes what is done, in order
}

// Step is one thing that was seen to.
type Step struct {
	Did  string // "created", "changed", "unchanged"; "would create", "would change"; "note", "warning"
	What string
}

// runner is one run.
type runner struct {
	Options
	ctx     context.Context
	client  *elastic.Client
	product string
}

// Run prepares the engine. An error says at which step it ended; what was told
// before it has been done.
func Run(ctx context.Context, c *elastic.Client, o Options) error {
	err := elastic.CheckPrefix(o.Prefix)
	if o.Stream != "" {
		err = elastic.CheckDataStream(o.Stream)
	}
	if err != nil {
		return err
	}
	r := &runner{Options: o, ctx: ctx, client: c}
	r.product, err = c.Product(ctx)
	if err != nil {
		return err
	}
	r.report("note", "engine: "+r.product)
	for _, t := range r.templates() {
		if err := r.put(t); err != nil {
			return err
		}
	}
	if err := r.lifecycle(strings.HasPrefix(r.product, "opensearch")); err != nil {
		return err
	}
	for _, t := range []object{
		r.linesTemplate(),
		indexTemplate("wsrelay-dead", patterns("wsrelay-dead"), nil, "wsrelay-dead", "wsrelay-settings"),
	} {
		if err := r.put(t); err != nil {
			return err
		}
	}
	return r.check()
}

func (r *runner) report(did, what string) { r.Report(Step{did, what}) }

// object is something the engine keeps under a path.
type object struct {
	name string // for the operator
	path string
	body string
	in   string // where the engine's answer has it, a path of gjson
	keep bool   // what is there is right
}

func component(name, body string) object {
	return object{
		name: "component template " + name, path: "/_component_template/" + name,
		body: body, in: "component_templates.0.component_template",
	}
}

func (r *runner) templates() []object {
	settings := fmt.Sprintf(`{"template":{"settings":{"index":{"refresh_interval":"%ds","translog":{"durability":"request"}}}}}`, int(Refresh.Seconds()))
	custom := component("wsrelay-custom", `{"template":{}}`)
	custom.keep = true
	return []object{
		component("wsrelay-own", `{"template":`+elastic.Mapping+`}`),
		component("wsrelay-ecs", ecs),
		component("wsrelay-dead", `{"template":`+elastic.DeadMapping+`}`),
		component("wsrelay-settings", settings),
		custom,
	}
}

// patterns match the names with a date behind, from a sender's clock that was
// never set, in 1970, to 2999. Those of another prefix that begins with this one
// they do not match: what deletes the one's indices must not delete the other's.
func patterns(name string) []string { return []string{name + "-2*", name + "-19*"} }

// set is what the names of the templates and the policy of one set of lines end
// with.
func (r *runner) set() string { return cmp.Or(r.Stream, r.Prefix) }

// indices are the names that lines go to.
func (r *runner) indices() []string {
	if r.Stream != "" {
		return []string{r.Stream}
	}
	return patterns("wsrelay-" + r.Prefix)
}

// linesTemplate is that of the indices, or of the data stream. Its priority is
// above that of the templates for logs-*-* which engines bring along, and its
// pattern is the one name.
func (r *runner) linesTemplate() object {
	var more map[string]any
	if r.Stream != "" {
		more = map[string]any{"data_stream": map[string]any{}}
		if r.hasFailureStore() {
			more["template"] = map[string]any{"data_stream_options": map[string]any{"failure_store": map[string]any{"enabled": false}}}
		}
	}
	return indexTemplate("wsrelay-"+r.set(), r.indices(), more, "wsrelay-own", "wsrelay-ecs", "wsrelay-settings",
		"wsrelay-retain-"+r.set(), "wsrelay-custom")
}

// hasFailureStore reports whether the engine may put what a data stream refuses
// into a place of its own, which nobody would look at: refused lines are wsreceive's.
func (r *runner) hasFailureStore() bool {
	var major, minor int
	n, _ := fmt.Sscanf(r.product, "elasticsearch %d.%d", &major, &minor)
	return n == 2 && (major > 9 || major == 9 && minor >= 1 || major == 8 && minor >= 19)
}

func indexTemplate(name string, patterns []string, more map[string]any, of ...string) object {
	template := map[string]any{"index_patterns": patterns, "priority": 300, "composed_of": of}
	maps.Copy(template, more)
	body, _ := json.Marshal(template)
	return object{
		name: "index template " + name, path: "/_index_template/" + name,
		body: string(body), in: "index_templates.0.index_template",
	}
}

// put makes the engine hold the object, unless it does.
func (r *runner) put(o object) error {
	answer, err := r.client.Do(r.ctx, http.MethodGet, o.path, nil)
	there := err == nil
	switch {
	case err != nil && !hasStatus(err, http.StatusNotFound):
		return fmt.Errorf("%s: %w", o.name, err)
	case there && (o.keep || covers(gjson.GetBytes(answer, o.in).Value(), gjson.Parse(o.body).Value())):
		r.report("unchanged", o.name)
		return nil
	}
	did := map[bool]string{false: "created", true: "changed"}[there]
	if r.DryRun {
		r.report("would "+strings.TrimSuffix(did, "d"), o.name)
		return nil
	}
	if _, err := r.client.Do(r.ctx, http.MethodPut, o.path+o.version(answer), []byte(o.body)); err != nil {
		return fmt.Errorf("%s: %w", o.name, err)
	}
	r.report(did, o.name)
	return nil
}

// version makes sure that what is replaced is what was looked at, for objects
// that the engine keeps as documents.
func (o *object) version(answer []byte) string {
	if seq := gjson.GetBytes(answer, "_seq_no"); seq.Exists() {
		return fmt.Sprintf("?if_seq_no=%d&if_primary_term=%d", seq.Int(), gjson.GetBytes(answer, "_primary_term").Int())
	}
	return ""
}

// covers reports whether all of want is in got. Engines add what they default,
// and write numbers of settings as text.
func covers(got, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		for name, value := range want {
			if object, isObject := value.(map[string]any); got[name] == nil && isObject && len(object) == 0 {
				continue
			}
			ok = ok && covers(got[name], value)
		}
		return ok
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return false
		}
		for i := range want {
			ok = ok && covers(got[i], want[i])
		}
		return ok
	}
	return fmt.Sprint(got) == fmt.Sprint(want)
}

// check looks whether a new index would be as it should, and whether there are
// some that are not.
func (r *runner) check() error {
	if !r.DryRun {
		index := cmp.Or(r.Stream, "wsrelay-"+r.Prefix+"-2000.01.01")
		answer, err := r.client.Do(r.ctx, http.MethodPost, "/_index_template/_simulate_index/"+index, nil)
		if err != nil {
			return fmt.Errorf("look at what an index would be: %w", err)
		}
		if got := gjson.GetBytes(answer, "template.mappings.properties.source.properties.ip.type").Str; got != "ip" {
			r.report("warning", "new indices will not have these fields: another template with a priority above 300 matches "+index)
		}
	}
	answer, err := r.client.Do(r.ctx, http.MethodGet, "/wsrelay-*/_settings/index.translog.durability?flat_settings=true", nil)
	if err != nil {
		return fmt.Errorf("look at the indices that are there: %w", err)
	}
	gjson.ParseBytes(answer).ForEach(func(index, settings gjson.Result) bool {
		if settings.Get(`settings.index\.translog\.durability`).Str == "async" {
			r.report("warning", "index "+index.Str+" has index.translog.durability async: a power cut of the engine can cost lines that were acknowledged")
		}
		return true
	})
	if r.Stream != "" {
		return r.checkStream()
	}
	answer, err = r.client.Do(r.ctx, http.MethodGet, "/"+strings.Join(r.indices(), ",")+"/_mapping/field/source.ip", nil)
	if err != nil && !hasStatus(err, http.StatusNotFound) {
		return fmt.Errorf("look at the indices that are there: %w", err)
	}
	gjson.ParseBytes(answer).ForEach(func(index, found gjson.Result) bool {
		if found.Get(`mappings.source\.ip.mapping.ip.type`).Str != "ip" {
			r.report("note", "index "+index.Str+" was there before the templates and keeps the types that it has")
		}
		return true
	})
	return nil
}

// checkStream looks at the data stream that is there: wsreceive writes only to
// backing indices that the template has made.
func (r *runner) checkStream() error {
	answer, err := r.client.Do(r.ctx, http.MethodGet, "/_resolve/index/"+r.Stream, nil)
	if err != nil && !hasStatus(err, http.StatusNotFound) {
		return fmt.Errorf("look at the data stream: %w", err)
	}
	indices := gjson.GetBytes(answer, "data_streams.0.backing_indices").Array()
	if err != nil || len(indices) == 0 {
		return nil
	}
	last := indices[len(indices)-1].Str
	if answer, err = r.client.Do(r.ctx, http.MethodGet, "/"+last+"/_mapping", nil); err != nil {
		return fmt.Errorf("look at the data stream: %w", err)
	}
	if gjson.GetBytes(answer, "*.mappings.properties.wsrelay.properties.pin.dynamic").String() != "strict" {
		r.report("warning", fmt.Sprintf("%s was there before the templates: it has to be rolled over before wsreceive writes to it: POST /%s/_rollover", last, r.Stream))
	}
	return nil
}

func hasStatus(err error, status int) bool {
	var e *elastic.Error
	return errors.As(err, &e) && e.Status == status
}
