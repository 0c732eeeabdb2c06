package setup

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"wsrelay/receiver/store/elastic"
)

// saved is one line of the file.
type saved struct {
	Type       string         `json:"type"`
	ID         string         `json:"id"`
	Attributes map[string]any `json:"attributes"`
	References []struct {
		Name string `json:"name"`
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"references"`
}

// aggregated gives the fields of a visualization.
func (s *saved) aggregated() (fields []string) {
	for _, a := range gjson.Get(fmt.Sprint(s.Attributes["visState"]), "aggs").Array() {
		if field := a.Get("params.field").Str; field != "" {
			fields = append(fields, field)
		}
	}
	return fields
}

func objects(t *testing.T) map[string]saved {
	t.Helper()
	all := make(map[string]saved)
	for line := range strings.Lines(string(Dashboards(""))) {
		var s saved
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, twice := all[s.Type+"/"+s.ID]; twice {
			t.Errorf("%s %s is there twice", s.Type, s.ID)
		}
		all[s.Type+"/"+s.ID] = s
	}
	return all
}

func TestDashboards_EveryReferenceResolves(t *testing.T) {
	all := objects(t)
	used := make(map[string]bool)
	for _, s := range all {
		attributes, _ := json.Marshal(s.Attributes)
		for _, r := range s.References {
			if _, ok := all[r.Type+"/"+r.ID]; !ok {
				t.Errorf("%s %s: there is no %s %s", s.Type, s.ID, r.Type, r.ID)
			}
			if !strings.Contains(string(attributes), `\"`+r.Name+`\"`) {
				t.Errorf("%s %s: nothing is called %s", s.Type, s.ID, r.Name)
			}
			used[r.Type+"/"+r.ID] = true
		}
		for _, name := range regexp.MustCompile(`RefName\\":\\"([^\\]+)`).FindAllStringSubmatch(string(attributes), -1) {
			if !strings.Contains(fmt.Sprint(s.References), "{"+name[1]+" ") {
				t.Errorf("%s %s: %s leads nowhere", s.Type, s.ID, name[1])
			}
		}
	}
	for id, s := range all {
		if s.Type != "dashboard" && !used[id] {
			t.Errorf("nothing shows %s", id)
		}
	}
}

// types are those of a mapping by full name.
func types(mapping gjson.Result) map[string]string {
	all := make(map[string]string)
	mapping.Get("mappings.properties").ForEach(func(name, field gjson.Result) bool {
		if kind := field.Get("type").Str; kind != "" {
			all[name.Str] = kind
		}
		wrapped := fmt.Sprintf(`{"mappings":{"properties":%s}}`, field.Get("properties").Raw)
		if field.Get("properties").Exists() {
			for inner, kind := range types(gjson.Parse(wrapped)) {
				all[name.Str+"."+inner] = kind
			}
		}
		return true
	})
	return all
}

func TestDashboards_EveryFieldIsInTheTemplate(t *testing.T) {
	lines, dead := types(gjson.Get(ecs, "template")), types(gjson.Parse(elastic.DeadMapping))
	maps.Copy(lines, types(gjson.Parse(elastic.Mapping)))
	fields := map[string]map[string]string{"wsrelay": lines, "wsrelay-dead": dead}
	check := func(id, pattern, field string, kinds ...string) {
		kind := fields[pattern][field]
		if kind == "" || len(kinds) > 0 && !strings.Contains(strings.Join(kinds, " "), kind) {
			t.Errorf("%s: the field %s of %s has the type %q, want one of %v", id, field, pattern, kind, kinds)
		}
	}
	kinds := map[string][]string{
		"date_histogram": {"date"}, "terms": {"keyword", "long", "ip"}, "sum": {"long"},
		"avg": {"long"}, "percentiles": {"long"},
	}
	for id, s := range objects(t) {
		if s.Type == "dashboard" || s.Type == "index-pattern" {
			continue
		}
		pattern := s.References[0].ID
		for _, a := range gjson.Get(fmt.Sprint(s.Attributes["visState"]), "aggs").Array() {
			if field := a.Get("params.field").Str; field != "" {
				check(id, pattern, field, kinds[a.Get("type").Str]...)
			} else if a.Get("type").Str != "count" {
				t.Errorf("%s: %s of nothing", id, a.Get("type").Str)
			}
		}
		columns, _ := s.Attributes["columns"].([]any)
		for _, c := range columns {
			check(id, pattern, c.(string))
		}
		source := s.Attributes["kibanaSavedObjectMeta"].(map[string]any)["searchSourceJSON"].(string)
		if query := gjson.Get(source, "query.query").Str; query != "" {
			check(id, pattern, regexp.MustCompile(`^[a-z_.]+`).FindString(query))
		}
	}
}

func TestImport_SendsTheObjectsAndBelievesOnlySuccess(t *testing.T) {
	success := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, _, err := r.FormFile("file")
		switch {
		case err != nil, r.URL.Path != "/base/api/saved_objects/_import", r.URL.Query().Get("overwrite") != "true",
			r.Header.Get("kbn-xsrf") == "", r.Header.Get("osd-xsrf") == "",
			r.Header.Get("Authorization") != "Basic dTpw":
			http.Error(w, fmt.Sprint(r.URL, r.Header, err), http.StatusBadRequest)
			return
		}
		var objects int
		for d := json.NewDecoder(file); d.More(); objects++ {
			if err := d.Decode(new(saved)); err != nil {
				t.Error(err)
				break
			}
		}
		fmt.Fprintf(w, `{"success":%v,"successCount":%d}`, success, objects)
	}))
	defer srv.Close()
	step, err := Import(t.Context(), srv.URL+"/base/", "", elastic.Access{Auth: "u:p"})
	if want := (Step{"imported", fmt.Sprintf("dashboards: %d objects", len(objects(t)))}); err != nil || step != want {
		t.Errorf("got %v, %v, want %v", step, err, want)
	}
	success = false
	if _, err := Import(t.Context(), srv.URL+"/base", "", elastic.Access{Auth: "u:p"}); err == nil {
		t.Error("an import that failed in part is no error")
	}
	if _, err := Import(t.Context(), srv.URL, "", elastic.Access{}); err == nil ||
		!strings.Contains(err.Error(), "400") {
		t.Errorf("error %v, want that of the server", err)
	}
}

func TestDashboards_ShowTheDataStream(t *testing.T) {
	if got := string(Dashboards("logs-x-default")); !strings.Contains(got,
		`"title":"wsrelay-*,-wsrelay-dead-*,logs-x-default"`) {
		t.Error("the index pattern does not have it")
	}
}
