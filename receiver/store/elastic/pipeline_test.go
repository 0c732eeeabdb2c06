package elastic_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/receiver/store/elastic"
	"wsrelay/test/faults"
)

// names is an ingest pipeline that gives a message of syslog with a request of
// nginx the names that the code gives it. It has the line as event.original.
func names() string {
	var steps []string
	step := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	step(`{"json":{"field":"event.original","target_field":"t"}}`)
	for _, move := range [][2]string{
		{"t.timestamp", "@timestamp"},
		{"t.message", "message"},
		{"t.host", "host.name"},
		{"t.program", "process.name"},
		{"t.severity", "log.level"},
		{"t.facility", "log.syslog.facility.name"},
		{"t.priority", "log.syslog.priority"},
		{"t.fields.ip", "source.ip"},
		{"t.fields.path", "url.original"},
		{"t.fields.host", "url.domain"},
		{"t.fields.status", "http.response.status_code"},
		{"t.fields.length", "http.response.body.bytes"},
		{"t.fields.referrer", "http.request.referrer"},
		{"t.fields.user_agent", "user_agent.original"},
		{"t.fields.date", "fields.date"},
	} {
		step(`{"rename":{"field":%q,"target_field":%q}}`, move[0], move[1])
	}
	step(`{"script":{"source":%q}}`, strings.Join([]string{
		`def s = ctx.log.syslog; s.facility.code = s.priority / 8; s.severity = ['code': s.priority % 8, 'name': ctx.log.level];`,
		`s.hostname = ctx.host.name; s.appname = ctx.process.name; ctx.event.duration = ctx.t.fields.generation_time_milli * 1000000L;`,
		`def u = ctx.url; int at = u.original.indexOf('?'); u.path = at < 0 ? u.original : u.original.substring(0, at); if (at >= 0) { u.query = u.original.substring(at + 1) }`,
		`ctx.remove('t');`,
	}, " "))
	return `{"processors":[` + strings.Join(steps, ",") + `]}`
}

const namesPipeline = "wsrelay-speed-names"

// unnamed are the documents as they would be sent if a pipeline made the names.
func (s *speed) unnamed() (bodies [][]byte) {
	for _, b := range s.batches() {
		var body []byte
		lines := strings.Split(string(elastic.Documents("speed", b)), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			action := strings.Replace(lines[i], `"_id"`, `"pipeline":"`+namesPipeline+`","_id"`, 1)
			body = fmt.Appendf(body, "%s\n{\"wsrelay\":%s,\"event\":{\"original\":%s}}\n", action,
				gjson.Get(lines[i+1], "wsrelay").Raw, gjson.Get(lines[i+1], "event.original").Raw)
		}
		bodies = append(bodies, body)
	}
	return bodies
}

// engineCPU is the CPU time that the engine's processes have used.
func (s *speed) engineCPU() (used time.Duration) {
	faults.Ask(s, http.MethodGet, "/_nodes/stats/process", "").Get("nodes").ForEach(func(_, node gjson.Result) bool {
		used += time.Duration(node.Get("process.cpu.total_in_millis").Int()) * time.Millisecond
		return true
	})
	return used
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fields gives a stored document without what differs from run to run.
func (s *speed) fields() map[string]any {
	hit := faults.Ask(s, http.MethodPost, "/"+speedIndex+"/_search",
		`{"size":1,"query":{"term":{"wsrelay.seq":7}}}`).Get("hits.hits.0._source").Map()
	delete(hit, "wsrelay")
	flat := make(map[string]any)
	var flatten func(prefix string, members map[string]gjson.Result)
	flatten = func(prefix string, members map[string]gjson.Result) {
		for name, value := range members {
			if value.IsObject() {
				flatten(prefix+name+".", value.Map())
			} else {
				flat[prefix+name] = value.Value()
			}
		}
	}
	flatten("", hit)
	return flat
}

// What an ingest pipeline would cost that gives the names of the schema, beside
// the code that does: the CPU time of the engine for the same documents.
func TestSpeed_NamesByPipelineAndByCode(t *testing.T) {
	s := needSpeed(t)
	faults.NeedProcessors(t, "json", "rename", "script")
	s.docs = min(s.docs, 40_000)
	faults.Ask(t, http.MethodPut, "/_ingest/pipeline/"+namesPipeline, names())
	t.Cleanup(func() { faults.Ask(t, http.MethodDelete, "/_ingest/pipeline/"+namesPipeline, "") })
	ways := []struct {
		name   string
		bodies func() [][]byte
	}{{"names by code", func() [][]byte { return s.bodies(true) }}, {"names by an ingest pipeline", s.unnamed}}
	const rounds = 3
	used := make([]time.Duration, len(ways))
	stored := make([]map[string]any, len(ways))
	for round := range rounds + 1 {
		for i, way := range ways {
			bodies := way.bodies()
			before := s.engineCPU()
			for _, body := range bodies {
				s.post(body, "")
			}
			faults.Ask(t, http.MethodPost, "/"+speedIndex+"/_flush", "")
			if round > 0 { // in the first the engine compiles itself
				used[i] += s.engineCPU() - before
			}
			faults.Ask(t, http.MethodPost, "/"+speedIndex+"/_refresh", "")
			stored[i] = s.fields()
			s.rate(time.Now())
		}
	}
	for name, value := range stored[0] {
		if fmt.Sprint(stored[1][name]) != fmt.Sprint(value) {
			t.Errorf("%s is %v by the pipeline, %v by the code", name, stored[1][name], value)
		}
	}
	batches, before := s.batches(), ownCPU()
	for _, b := range batches {
		elastic.Documents("speed", b)
	}
	made := ownCPU() - before
	million := float64(rounds*s.docs) / 1e6
	for i, way := range ways {
		t.Logf("%5.1f s of the engine's CPU for a million documents: %s", used[i].Seconds()/million, way.name)
	}
	t.Logf("%5.1f s of wsreceive's CPU for a million documents: names by code, all of the document",
		made.Seconds()/million*rounds)
}
