package setup

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	gopath "path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/elastic"
	"wsrelay/test/faults"
)

// run sets an engine up and gives what was done.
func run(t *testing.T, url string, o Options) []Step {
	t.Helper()
	c, err := elastic.Dial(url, elastic.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var steps []Step
	o.Report = func(s Step) { steps = append(steps, s) }
	if err := Run(t.Context(), c, o); err != nil {
		t.Fatal(err)
	}
	return steps
}

func did(steps []Step, word string) (n int) {
	for _, s := range steps {
		if s.Did == word {
			n++
		}
	}
	return n
}

func says(steps []Step, text string) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return strings.Contains(s.What, text) })
}

// kept is an engine that keeps what is put and answers as the engine whose
// root it has, with lifecycle management or without.
type kept struct {
	*httptest.Server
	root, probe string // the answer of /; the path that shows lifecycle management
	objects     map[string]string
	answers     map[string]string // to other paths
	puts        []string
}

func newKept(t *testing.T, root, probe string) *kept {
	k := &kept{root: root, probe: probe, objects: make(map[string]string)}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		path := r.URL.Path
		name := path[strings.LastIndexByte(path, '/')+1:]
		switch object := k.objects[path]; {
		case k.answers[path] != "":
			fmt.Fprint(w, k.answers[path])
		case r.Method == http.MethodPut:
			k.objects[path] = string(body)
			k.puts = append(k.puts, r.URL.RequestURI())
			fmt.Fprint(w, `{"acknowledged":true}`)
		case path == "/":
			fmt.Fprint(w, k.root)
		case strings.Contains(path, "_simulate_index"):
			fmt.Fprint(w, `{"template":{}}`)
		case path == k.probe:
			fmt.Fprint(w, `{"operation_mode":"RUNNING"}`)
		case strings.HasSuffix(path, "/_settings/index.translog.durability"):
			fmt.Fprint(w, `{"wsrelay-logs-2026.11.22":{"settings":{"index.translog.durability":"async"}}}`)
		case strings.HasSuffix(path, "/_mapping/field/source.ip"):
			fmt.Fprint(w, `{"wsrelay-logs-2026.11.22":{"mappings":{}}}`)
		case object == "":
			http.Error(w, `{"error":{"type":"resource_not_found_exception"}}`, http.StatusNotFound)
		case strings.HasPrefix(path, "/_component_template/"):
			fmt.Fprintf(w, `{"component_templates":[{"name":%q,"component_template":%s}]}`, name, object)
		case strings.HasPrefix(path, "/_index_template/"):
			fmt.Fprintf(w, `{"index_templates":[{"name":%q,"index_template":%s}]}`, name, object)
		case strings.HasPrefix(path, "/_ilm/"):
			fmt.Fprintf(w, `{%q:%s}`, name, object)
		default:
			fmt.Fprintf(w, `{"_id":%q,"_seq_no":4,"_primary_term":2,"policy":%s}`, name, gjson.Get(object, "policy"))
		}
	}))
	t.Cleanup(k.Close)
	return k
}

const (
	openSearch    = `{"version":{"number":"2.19.1","distribution":"opensearch"}}`
	elasticsearch = `{"version":{"number":"8.15.0"}}`
)

func TestRun_TheSecondTimeChangesNothing(t *testing.T) {
	for _, tt := range []struct{ name, root, probe, policy string }{
		{"ILM", elasticsearch, "/_ilm/status", "/_ilm/policy/wsrelay-logs"},
		{"ISM", openSearch, "/_plugins/_ism/policies", "/_plugins/_ism/policies/wsrelay-logs"},
		{"neither", openSearch, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newKept(t, tt.root, tt.probe)
			dry := run(t, e.URL, Options{Prefix: "logs", Days: 30, DryRun: true})
			if len(e.puts) > 0 || did(dry, "would create") == 0 {
				t.Errorf("a dry run has done %v and says %v", e.puts, dry)
			}
			first := run(t, e.URL, Options{Prefix: "logs", Days: 30})
			if n := did(first, "created"); n != len(e.objects) || n != did(dry, "would create") {
				t.Errorf("%d objects, steps %v", len(e.objects), first)
			}
			if got := e.objects[tt.policy]; strings.Contains(got, "30d") != (tt.policy != "") {
				t.Errorf("policy %q", got)
			}
			if got, want := e.objects["/_component_template/wsrelay-retain-logs"],
				tt.name == "ILM"; strings.Contains(got, "lifecycle") != want {
				t.Errorf("the indices' policy: %s", got)
			}
			if says(first, "neither ILM nor ISM") != (tt.policy == "") {
				t.Errorf("steps %v", first)
			}
			e.puts = nil
			if again := run(t, e.URL, Options{Prefix: "logs", Days: 30}); len(e.puts) > 0 ||
				did(again, "unchanged") != len(e.objects) {
				t.Errorf("the second run has put %v and says %v", e.puts, again)
			}
			if later := run(t, e.URL, Options{Prefix: "logs"}); len(e.puts) > 0 {
				t.Errorf("without --retain the policy does not stay: %v, %v", e.puts, later)
			}
			changed := run(t, e.URL, Options{Prefix: "logs", Days: 7})
			if want := min(len(tt.policy), 1); did(changed, "changed") != want {
				t.Errorf("steps %v, want %d changed", changed, want)
			}
			if tt.name == "ISM" && !strings.HasSuffix(e.puts[0], "?if_seq_no=4&if_primary_term=2") {
				t.Errorf("put %v, want the version that was looked at", e.puts)
			}
		})
	}
}

// A policy that deletes must not reach the indices of a prefix that begins the
// same.
func TestRun_MeansTheIndicesOfItsPrefixOnly(t *testing.T) {
	e := newKept(t, openSearch, "/_plugins/_ism/policies")
	run(t, e.URL, Options{Prefix: "logs", Days: 30})
	for name, where := range map[string]string{
		"/_index_template/wsrelay-logs":        "index_patterns",
		"/_index_template/wsrelay-dead":        "index_patterns",
		"/_plugins/_ism/policies/wsrelay-logs": "policy.ism_template.0.index_patterns",
	} {
		base := strings.TrimPrefix(name[strings.LastIndexByte(name, '/'):], "/")
		for index, want := range map[string]bool{
			base + "-2026.11.22": true, base + "-1970.01.01": true,
			base + "-audit-2026.11.22": false,
		} {
			got := slices.ContainsFunc(gjson.Get(e.objects[name], where).Array(), func(pattern gjson.Result) bool {
				ok, err := gopath.Match(pattern.Str, index)
				return ok && err == nil
			})
			if got != want {
				t.Errorf("%s matches %s: %v, want %v", name, index, got, want)
			}
		}
	}
}

// However two prefixes are alike, neither one's patterns match the other's
// indices.
func TestPatterns_OfTwoPrefixesNeverOverlap(t *testing.T) {
	parts := []string{"logs", "2eu", "2", "19", "1999", "2026", "web", "0", "3"}
	var prefixes []string
	for _, a := range parts {
		prefixes = append(prefixes, a)
		for _, b := range parts {
			prefixes = append(prefixes, a+"-"+b, a+"_"+b, a+b, a+"-"+b+"-"+a, a+"--"+b)
		}
	}
	taken := slices.DeleteFunc(prefixes, func(p string) bool { return elastic.CheckPrefix(p) != nil })
	slices.Sort(taken)
	taken = slices.Compact(taken)
	if len(taken) < 50 {
		t.Fatalf("only %d prefixes are taken: %v", len(taken), taken)
	}
	for _, a := range taken {
		for _, b := range taken {
			for _, pattern := range patterns("wsrelay-" + a) {
				for _, day := range []string{"-2026.11.22", "-1970.01.01"} {
					if ok, err := gopath.Match(pattern, "wsrelay-"+b+day); a != b && (ok || err != nil) {
						t.Errorf("%s of %q matches %s of %q", pattern, a, "wsrelay-"+b+day, b)
					}
				}
			}
		}
	}
}

func TestRun_RefusesAPrefixThatIsNone(t *testing.T) {
	c, err := elastic.Dial("http://127.0.0.1:1", elastic.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, prefix := range []string{"", "Logs", "a*", "dead", "dead-web", "logs-2eu", "logs-1999", "a-b-2"} {
		if err := Run(t.Context(), c, Options{Prefix: prefix}); err == nil ||
			!strings.Contains(err.Error(), "index prefix") {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

// A data stream has a template for its one name, and a policy that rolls it over.
func TestRun_PreparesADataStream(t *testing.T) {
	const stream = "logs-wsrelay-default"
	for _, tt := range []struct {
		root, probe, policy, rollover string
		failures                      bool
	}{
		{`{"version":{"number":"9.5.3"}}`, "/_ilm/status", "/_ilm/policy/wsrelay-" + stream, "policy.phases.hot.actions.rollover.max_age", true},
		{elasticsearch, "/_ilm/status", "/_ilm/policy/wsrelay-" + stream, "policy.phases.hot.actions.rollover.max_age", false},
		{openSearch, "/_plugins/_ism/policies", "/_plugins/_ism/policies/wsrelay-" + stream, "policy.states.0.actions.0.rollover.min_index_age", false},
	} {
		e := newKept(t, tt.root, tt.probe)
		run(t, e.URL, Options{Stream: stream, Days: 30})
		template := e.objects["/_index_template/wsrelay-"+stream]
		if got := gjson.Get(template, "index_patterns").Raw; got != `["`+stream+`"]` ||
			!gjson.Get(template, "data_stream").Exists() {
			t.Errorf("template %s", template)
		}
		if got := gjson.Get(template, "template.data_stream_options.failure_store.enabled").Raw; got != map[bool]string{true: "false"}[tt.failures] {
			t.Errorf("%s: failure store %q", tt.root, got)
		}
		if policy := e.objects[tt.policy]; gjson.Get(policy, tt.rollover).Str != "1d" {
			t.Errorf("policy %s", policy)
		}
		e.puts = nil
		if again := run(t, e.URL, Options{Stream: stream, Days: 30}); len(e.puts) > 0 ||
			did(again, "unchanged") != len(e.objects) {
			t.Errorf("the second run has put %v and says %v", e.puts, again)
		}
	}
	c, err := elastic.Dial("http://127.0.0.1:1", elastic.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := Run(t.Context(), c, Options{Stream: "wsrelay-logs"}); err == nil ||
		!strings.Contains(err.Error(), "data stream") {
		t.Errorf("error %v", err)
	}
}

// One that was there before the templates is named.
func TestRun_WarnsOfADataStreamThatItHasNotMade(t *testing.T) {
	e := newKept(t, openSearch, "")
	const index = ".ds-logs-old-000003"
	e.answers = map[string]string{
		"/_resolve/index/logs-old": `{"data_streams":[{"name":"logs-old","backing_indices":[".ds-logs-old-000002","` +
			index + `"]}]}`,
		"/" + index + "/_mapping": `{"` + index + `":{"mappings":{"properties":{"wsrelay":{"properties":{"pin":{"dynamic":"true"}}}}}}}`,
	}
	if steps := run(t, e.URL, Options{Stream: "logs-old"}); !says(steps, "POST /logs-old/_rollover") {
		t.Errorf("steps %v", steps)
	}
	e.answers["/"+index+"/_mapping"] = strings.ReplaceAll(e.answers["/"+index+"/_mapping"], `"true"`, `"strict"`)
	if steps := run(t, e.URL, Options{Stream: "logs-old"}); says(steps, "_rollover") {
		t.Errorf("steps %v", steps)
	}
}

func TestRun_LeavesTheAdministratorsTemplateAlone(t *testing.T) {
	e := newKept(t, openSearch, "")
	run(t, e.URL, Options{Prefix: "logs"})
	const own = `{"template":{"settings":{"index":{"number_of_replicas":"0"}}}}`
	e.objects["/_component_template/wsrelay-custom"] = own
	e.objects["/_component_template/wsrelay-ecs"] = `{"template":{}}`
	steps := run(t, e.URL, Options{Prefix: "logs"})
	if e.objects["/_component_template/wsrelay-custom"] != own || did(steps, "changed") != 1 {
		t.Errorf("steps %v", steps)
	}
}

func TestRun_WarnsOfWhatItCannotFix(t *testing.T) {
	e := newKept(t, openSearch, "")
	steps := run(t, e.URL, Options{Prefix: "logs"})
	for _, want := range []string{"durability async", "keeps the types", "another template"} {
		if !says(steps, want) {
			t.Errorf("steps %v, want %q", steps, want)
		}
	}
}

// The lines of the samples: nginx's log_format as it is, and through the
// websocket() block; a plain message of syslog.
const (
	request = `{"ip":"203.0.113.7","host":"shop.example","path":"/orders?q=1","status":404,"referrer":"https://shop.example/","user_agent":"Mozilla/5.0","length":512,"generation_time_milli":42,"date":"2026-03-14T09:00:00+00:00"}`
	syslog  = `{"timestamp":"2026-03-14T09:00:00.123456+00:00","host":"web1","program":"%s","pid":"412","facility":"local7","severity":"info","priority":190,"message":"invoice paid"%s}`
)

// Needs a real engine: scripts/engine.sh test.
func TestEngine_SetupTypesTheLinesOfTheSamples(t *testing.T) {
	url := faults.Engine(t)
	prefix := "test-x" + handshake.NewSID()
	defer func() {
		faults.Ask(t, http.MethodDelete, "/wsrelay-"+prefix+"-*", "")
		faults.Ask(t, http.MethodDelete, "/_index_template/wsrelay-"+prefix, "")
		faults.Ask(t, http.MethodDelete, "/_component_template/wsrelay-retain-"+prefix, "")
	}()
	first := run(t, url, Options{Prefix: prefix, Days: 30})
	for _, s := range first {
		t.Log(s.Did, s.What)
	}
	if did(first, "created") == 0 || says(first, "another template") {
		t.Errorf("steps %v", first)
	}
	again := run(t, url, Options{Prefix: prefix, Days: 30})
	if did(again, "created")+did(again, "changed") > 0 || did(again, "unchanged") < 7 {
		t.Errorf("the second run: %v", again)
	}

	s, err := elastic.Open(t.Context(), url, elastic.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lines := [][]byte{
		[]byte(request),
		fmt.Appendf(nil, syslog, "nginx", `,"fields":`+request),
		fmt.Appendf(nil, syslog, "billing", `,"sdata":{"x@1":{"a":"b"}}`),
		[]byte("plain text"),
		[]byte(`{"host":"web2","level":"error","error":"boom","url":"http://x/","n":1}`),
		[]byte(`{"@timestamp":"2026-03-14T09:00:00Z","host":{"name":"web3"},"process":{"pid":7},"log":{"level":"warn"}}`),
	}
	sid := handshake.NewSID()
	at := time.Date(2026, 3, 14, 9, 0, 1, 0, time.UTC)
	results, err := s.Commit(t.Context(), []receiver.Batch{{SID: sid, Host: "web1", Seq: 1, At: at, Lines: lines}})
	if err != nil || results[0].New != len(lines) {
		t.Fatalf("%+v, %v, want %d documents", results, err, len(lines))
	}
	index := "/wsrelay-" + prefix + "-2026.03.14"
	faults.Ask(t, http.MethodPost, index+"/_refresh", "")
	for query, want := range map[string]int{
		`{"term":{"source.ip":"203.0.113.0/24"}}`:                                   2,
		`{"range":{"http.response.status_code":{"gte":400,"lt":500}}}`:              2,
		`{"range":{"event.duration":{"gt":41000000,"lt":43000000}}}`:                2,
		`{"term":{"url.path":"/orders"}}`:                                           2,
		`{"term":{"log.syslog.facility.name":"local7"}}`:                            2,
		`{"term":{"log.syslog.severity.code":6}}`:                                   2,
		`{"match":{"message":"paid"}}`:                                              2,
		`{"term":{"process.pid":412}}`:                                              2,
		`{"range":{"@timestamp":{"gte":"2026-03-14","lt":"2026-03-14T09:00:01Z"}}}`: 4,
		`{"term":{"host.name":"web2"}}`:                                             1,
		`{"match":{"error.message":"boom"}}`:                                        1,
		`{"exists":{"field":"source.geo.location"}}`:                                0,
	} {
		if got := faults.Ask(t, http.MethodPost, index+"/_count",
			`{"query":`+query+`}`).Get("count").Int(); got != int64(want) {
			t.Errorf("%s finds %d documents, want %d", query, got, want)
		}
	}
	mapping := types(faults.Ask(t, http.MethodGet, index+"/_mapping", "").Get("*"))
	want := types(gjson.Get(ecs, "template"))
	want["wsrelay.seq"], want["source.geo.location"] = "long", "geo_point"
	delete(want, "log.syslog.structured_data") // has fields of its own by now
	for field, kind := range want {
		if mapping[field] != kind {
			t.Errorf("the field %s is of type %q, want %q", field, mapping[field], kind)
		}
	}
	if got := faults.Ask(t, http.MethodGet, index+"/_settings?flat_settings=true",
		"").Get(`*.settings.index\.refresh_interval`).Str; got != "2s" {
		t.Errorf("refresh interval %q", got)
	}
	caps := faults.Ask(t, http.MethodGet, index+"/_field_caps?fields=*", "").Get("fields")
	charts := 0
	for id, o := range objects(t) {
		if o.Type == "visualization" {
			charts++
		}
		for _, field := range o.aggregated() {
			kind := ""
			caps.Get(strings.ReplaceAll(field, ".", `\.`)).ForEach(func(_, cap gjson.Result) bool {
				kind = cap.Get("type").Str + " " + cap.Get("aggregatable").Raw
				return true
			})
			if o.References[0].ID == "wsrelay" && !strings.HasSuffix(kind, " true") {
				t.Errorf("%s: the field %s cannot be aggregated: %q", id, field, kind)
			}
		}
	}
	stored := faults.Count(t, prefix, sid)
	for _, what := range [][2]string{
		{"R6", "setup twice; lines of the samples have typed fields"},
		{"R8", fmt.Sprintf("the fields of %d visualizations can be searched and aggregated", charts)},
	} {
		faults.Row{
			Rule: what[0], Fault: what[1], Lines: len(lines), Documents: stored.Documents, AsText: stored.AsText,
			Dead: stored.Dead,
			Lost: len(lines) - len(stored.Indices), Doubled: stored.Documents + stored.Dead - len(stored.Indices),
		}.Tell(t)
	}
}
