package elastic_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/elastic"
	"wsrelay/receiver/store/elastic/setup"
	"wsrelay/test/faults"
)

// patience is how long a line may hold up another sender before it counts as
// stopped. How long it really does is in the fault table: that is a measurement,
// which moves with the machine.
const patience = time.Minute

// hostile are lines that engines refuse, or choke on, each for another reason.
func hostile() map[string]string {
	parts := func(n int) string { return strings.TrimSuffix(strings.Repeat("a.", n), ".") }
	nested := func(open, end string, n int) string { return strings.Repeat(open, n) + "1" + strings.Repeat(end, n) }
	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"name%d":%d`, i, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	lines := map[string]string{
		"dates of two forms under a new name":    `{"d1":["2026/01/01","2026-01-01"]}`,
		"numbers and words under a new name":     `{"d2":[1,"x",2.5,true,null]}`,
		"objects and words under a new name":     `{"d3":[{"y":2},"x",[1]]}`,
		"a name of 25 parts":                     `{"p.` + parts(24) + `":1}`,
		"a name of 505 parts":                    `{"q.` + parts(504) + `":1}`,
		"a name of 1,000 parts":                  `{"r.` + parts(999) + `":1}`,
		"a name of 5,000 parts":                  `{"s.` + parts(4999) + `":1}`,
		"dotted names within dotted names":       nested(`{"`+parts(40)+`":`, "}", 40),
		"objects 21 deep":                        nested(`{"o21":`, "}", 21),
		"objects 60 deep":                        nested(`{"o60":`, "}", 60),
		"objects 1,500 deep":                     nested(`{"o1500":`, "}", 1500),
		"arrays 60 deep":                         `{"a60":` + nested("[", "]", 60) + `}`,
		"arrays 100,000 deep":                    `{"a100000":` + nested("[", "]", 100_000) + `}`,
		"an open bracket 100,000 times":          `{"f":` + strings.Repeat("[", 100_000),
		"an empty name":                          `{"":1}`,
		"a blank name":                           `{" ":1}`,
		"a dot as name":                          `{".":1}`,
		"a name that begins with a dot":          `{".b":1}`,
		"a name that ends with a dot":            `{"b.":1}`,
		"two dots in a name":                     `{"a..b":1}`,
		"a nested empty name":                    `{"en":{"":{"":1}}}`,
		"a name of the engine's":                 `{"_id":"x"}`,
		"all names of the engine's":              `{"_index":1,"_source":{},"_type":"x","_routing":"y","_field_names":1,"_ignored":2,"_seq_no":3,"_version":4,"_doc_count":0,"_nested_path":"x","_tier":"x"}`,
		"a name of 40,000 bytes":                 `{"` + strings.Repeat("n", 40_000) + `":1}`,
		"a name of 40,000 wide characters":       `{"` + strings.Repeat("é", 20_000) + `":1}`,
		"a name of control characters":           `{"\u0000\u0001":1}`,
		"a name with a star":                     `{"*":1,"a*b":2}`,
		"a name that is half a surrogate":        `{"\ud800":1}`,
		"the same name twice":                    `{"z":1,"z":2}`,
		"the same nested name twice":             `{"zz":{"z":1,"z":2}}`,
		"the same name, escaped":                 `{"zzz":1,"\u007azz":2}`,
		"a dotted name and its object":           `{"w.x":1,"w":{"x":2}}`,
		"a dotted name and its scalar":           `{"v.x":1,"v":2}`,
		"a scalar and its dotted name":           `{"u":1,"u.x":2}`,
		"an integer beyond a long":               `{"big":123456789012345678901234567890}`,
		"an integer of 20,000 digits":            `{"huge":` + strings.Repeat("9", 20_000) + `}`,
		"a decimal of 20,000 digits":             `{"long":0.` + strings.Repeat("3", 20_000) + `}`,
		"a number without bounds":                `{"n999":1e999}`,
		"an exponent of a billion":               `{"n1e9":1e1000000000,"n2e9":-1e-1000000000}`,
		"an exponent in a long field":            `{"n":1e1000000000}`,
		"a word in a number's field":             `{"n":"a word"}`,
		"an object in a number's field":          `{"n":{"b":1}}`,
		"a decimal in a number's field":          `{"n":1.5}`,
		"a bool in a number's field":             `{"n":true}`,
		"an array in a number's field":           `{"n":[1,[2,"x"]]}`,
		"an object as message":                   `{"message":{"a":1}}`,
		"an array as message":                    `{"message":["a",{"b":1}]}`,
		"a time that is none":                    `{"@timestamp":"yesterday"}`,
		"a time with hours of one digit":         `{"@timestamp":"2026-03-14T5:00:00Z"}`,
		"a time with a comma":                    `{"@timestamp":"2026-03-14T05:00:00,5Z"}`,
		"a time with an offset of a day":         `{"@timestamp":"2026-03-14T05:00:00+24:00"}`,
		"a time as a number":                     `{"@timestamp":1e300}`,
		"a time as an object":                    `{"@timestamp":{"a":1}}`,
		"a time of the year 300,000":             `{"@timestamp":"+300000-01-01T00:00:00Z"}`,
		"no time":                                `{"@timestamp":null}`,
		"two times":                              `{"@timestamp":["2026-03-14T05:00:00Z","x"]}`,
		"a dotted part of the time":              `{"@timestamp.x":1}`,
		"the line's own wsrelay":                 `{"wsrelay":{"crc":"00000000"}}`,
		"a dotted wsrelay":                       `{"wsrelay.seq":"x"}`,
		"a wsrelay with a gap":                   `{"wsrelay":{"gap":{"n":"x"}}}`,
		"a bare host and a dotted one":           `{"host":"a","host.name":{"x":1}}`,
		"a host of objects":                      `{"host":{"name":{"first":"a"}}}`,
		"an address that is none":                `{"source":{"ip":"unix:"}}`,
		"a point that is none":                   `{"source":{"geo":{"location":"nowhere"}}}`,
		"a pid that is none":                     `{"process":{"pid":"none"}}`,
		"100 names":                              names(100),
		"1,200 names":                            names(1200),
		"20,000 names":                           names(20_000),
		"a word of 100,000 bytes":                `{"s":"` + strings.Repeat("x", 100_000) + `"}`,
		"a word of 100,000 bytes in a keyword":   `{"host":{"name":"` + strings.Repeat("x", 100_000) + `"}}`,
		"half a surrogate":                       `{"s":"\ud800"}`,
		"a NUL":                                  `{"s":"a\u0000b"}`,
		"bytes that are no UTF-8":                "caf\xe9 {\"a\":1}",
		"an object with bytes that are no UTF-8": "{\"a\":\"caf\xe9\"}",
		"nothing":                                "",
		"an array":                               `[{"a":1}]`,
		"a string":                               `"a"`,
		"a number":                               `1e999`,
		"an object that is cut":                  `{"a":1,`,
		"two objects":                            `{"a":1}{"b":2}`,
		"a comment":                              `{"a":1/* x */}`,
		"the action of a bulk":                   `{"delete":{"_index":"x","_id":"y"}}`,
		"a syslog message with odd data":         `{"timestamp":"2026-03-14T09:00:00,5+24:00","host":"web1","program":"x","facility":"local7","severity":"info","priority":190,"message":"m","sdata":{"a..b":{"":1}},"fields":{"` + parts(600) + `":1}}`,
		"a syslog message with a deep field":     `{"timestamp":"2026-03-14T09:00:00Z","host":"web1","program":"x","facility":"local7","severity":"info","priority":190,"message":"m","fields":` + nested(`{"sd":`, "}", 30) + `}`,
		"a request with an odd field":            `{"ip":"203.0.113.7","path":"/x","status":200,"generation_time_milli":1,"date":"2026-03-14T5:00:00Z","":{"a.":1}}`,
	}
	for i, date := range []string{
		"2026-01-01", "2026/01/01", "2026/01/01 10:00:00", "2026/01/01 10:00:00 +0100",
		"2026-01-01T10:00:00Z",
	} {
		for j, other := range []string{`"x"`, `1`, `{"a":1}`, `"2026/13/45"`, `"2026-01-01"`} {
			lines[fmt.Sprintf("dates %d %d", i, j)] = fmt.Sprintf(`{"dd%d%d":[%q,%s]}`, i, j, date, other)
		}
	}
	maps.Copy(lines, odd())
	return lines
}

// watch commits lines of another sender all the while, and tells how long the
// slowest commit took.
func (s *scene) watch() (slowest func() time.Duration) {
	ctx, stop := context.WithCancel(s.Context())
	sid := handshake.NewSID()
	s.sids = append(s.sids, sid)
	var most time.Duration
	var wg sync.WaitGroup
	wg.Go(func() {
		for seq := uint64(1); ctx.Err() == nil; seq += 10 {
			b := s.batch(sid, seq, 10, plain)
			start := time.Now()
			s.commit(b)
			most = max(most, time.Since(start))
			time.Sleep(10 * time.Millisecond)
		}
	})
	return func() time.Duration {
		stop()
		wg.Wait()
		return most
	}
}

// commitSoon commits a batch that must not wait for ever, and tells how long it
// took.
func (s *scene) commitSoon(name string, b receiver.Batch) (r receiver.Result, took time.Duration) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	for {
		results, err := s.store.Commit(ctx, []receiver.Batch{b})
		took = time.Since(start)
		switch {
		case err == nil:
			return results[0], took
		case ctx.Err() != nil:
			s.Errorf("%s: no receipt after %v: %v", name, took.Round(time.Second), err)
			return receiver.Result{}, took
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Whatever a line is, it is stored with its text, and its stream and those of
// others continue: in indices that learn their types from the lines, and in those
// that have the types of setup.
func TestEngine_NoLineStopsItsStream(t *testing.T) {
	faults.Engine(t)
	for _, tt := range []struct {
		name  string
		typed bool
	}{{"guessed types", false}, {"types of setup", true}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			if tt.typed {
				s.setup()
			}
			s.feed(100, plain)()
			noLineStopsItsStream(s, tt.name)
		})
	}
}

func noLineStopsItsStream(s *scene, name string) {
	lines := hostile()
	names := slices.Sorted(maps.Keys(lines))
	if len(names) < 200 {
		s.Errorf("only %d lines", len(names))
	}
	ids := make(map[string]string) // of the odd lines, their names
	var most time.Duration
	var slow string
	letters := 0
	slowest := s.watch()
	for i, name := range names {
		s.store.ForgetNewNames() // their rate has a test of its own
		sid := handshake.NewSID()
		s.sids = append(s.sids, sid)
		ids[handshake.UID(sid, 2)] = name
		b := s.batch(sid, 1, 3, func(i int) string { return []string{plain(1), lines[name], plain(2)}[i] })
		b.At = day.AddDate(0, 0, -i/50) // an index has space for the names of so many
		r, took := s.commitSoon(name, b)
		if took > most {
			most, slow = took, name
		}
		letters += len(r.Rejected)
	}
	other := slowest()
	forms := s.forms(lines, ids)
	summary := fmt.Sprintf("%d odd lines, %s: %s; the slowest %v; another sender's slowest commit %v",
		len(names), name, forms, most.Round(10*time.Millisecond), other.Round(10*time.Millisecond))
	s.Log(summary, "; the slowest was ", slow)
	if other > patience {
		s.Errorf("another sender waited %v", other)
	}
	s.row("hostile", summary, letters, 0)
}

// setup makes the templates that wsreceive setup makes.
func (s *scene) setup() {
	c, err := elastic.Dial(faults.Engine(s), elastic.Access{})
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	if err := setup.Run(s.Context(), c, setup.Options{Prefix: s.prefix, Report: func(setup.Step) {}}); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(s.ask(http.MethodDelete, "/_index_template/wsrelay-"+s.prefix, ""))
}

// forms tells in what form the lines are stored, and wants the text of each
// that is not whole.
func (s *scene) forms(lines, ids map[string]string) string {
	var whole, without, text, dead int
	faults.Each(s, "wsrelay-"+s.prefix+"-*,wsrelay-dead-*", `{"range":{"wsrelay.seq":{"gte":2,"lte":2}}}`,
		func(index, id string, source gjson.Result) {
			name, ok := ids[id]
			if !ok {
				return
			}
			why := source.Get("wsrelay.why")
			kept := source.Get("message").Str
			switch {
			case strings.HasPrefix(index, "wsrelay-dead-"):
				dead++
				s.Logf("dead letter: %s: %s", name, source.Get("error").Raw)
			case !why.Exists():
				whole++
				return
			case source.Get("wsrelay.line").Exists():
				without++
				kept = source.Get("wsrelay.line").Str
			default:
				text++
			}
			s.Logf("%s: %.200s", name, why.Str)
			if kept != strings.ToValidUTF8(lines[name], "\ufffd") {
				s.Errorf("%s: the text is %.200q, want %.200q", name, kept, lines[name])
			}
		})
	return fmt.Sprintf("%d whole, %d without a member, %d as text, %d dead letters", whole, without, text, dead)
}

// Two lines with a name of thousands of parts must not hold the engine's write
// threads: other senders continue.
func TestEngine_DottedNamesHoldNobody(t *testing.T) {
	faults.Engine(t)
	for _, parts := range []int{1000, 3000, 5000} {
		s := newScene(t)
		slowest := s.watch()
		var wg sync.WaitGroup
		for i := range 2 {
			sid := handshake.NewSID()
			s.sids = append(s.sids, sid)
			line := fmt.Sprintf(`{"d%d%s":1}`, i, strings.Repeat(".p", parts-1))
			b := s.batch(sid, 1, 1, func(int) string { return line })
			wg.Go(func() { s.commitSoon(fmt.Sprint(parts, " parts"), b) })
		}
		wg.Wait()
		other := slowest()
		if other > patience {
			s.Errorf("%d parts: another sender waited %v", parts, other)
		}
		s.row("hostile", fmt.Sprintf("two names of %d parts; another sender's slowest commit %v", parts,
			other.Round(10*time.Millisecond)), 0, 0)
	}
}

// 20,000 names that differ, one a line, must not become 20,000 changes of the
// mapping.
func TestEngine_ManyNamesStopNobody(t *testing.T) {
	faults.Engine(t)
	s := newScene(t)
	slowest := s.watch()
	start := time.Now()
	s.feed(20_000, func(i int) string { return fmt.Sprintf(`{"name_%d":"value %[1]d"}`, i) })()
	took, other := time.Since(start), slowest()
	s.Logf("20,000 names took %v; the slowest commit of another sender took %v", took, other)
	if other > patience {
		s.Errorf("another sender waited %v", other)
	}
	s.row("hostile", fmt.Sprintf("20,000 names, one a line, in %v; another sender's slowest commit %v",
		took.Round(100*time.Millisecond), other.Round(10*time.Millisecond)), 0, 0)
}

// oddValue is a value as fuzzers make it.
func oddValue(r *rand.Rand, depth int) string {
	words := []string{
		"2026-01-01", "2026/01/01", "2026/01/01 10:00:00", "2026-01-01T10:00:00Z", "true", "1", "1.5",
		"x", "", "\u0000", "a.b", "203.0.113.7", "é", strings.Repeat("w", 300),
	}
	switch n := r.IntN(12); {
	case n < 4 || depth > 4:
		text, _ := json.Marshal(words[r.IntN(len(words))])
		return string(text)
	case n < 7:
		return []string{
			"1", "-0", "1.5", "1e10", "1e400", "9223372036854775807", "9223372036854775808", "0.1e-400",
			"null", "true", "false",
		}[r.IntN(11)]
	case n < 9:
		var items []string
		for range r.IntN(4) {
			items = append(items, oddValue(r, depth+1))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	return oddObject(r, depth+1)
}

func oddObject(r *rand.Rand, depth int) string {
	names := []string{
		"a", "b", "c", "d", "e", "f", "g", "h", "a.b", "a.b.c", "b.a", ".", "", " ", "a.", ".a", "a..b",
		"_id", "_source", "@timestamp", "message", "host", "host.name",
		"wsrelay", "wsrelay.seq", "error", "log", "http.response.status_code", "source.ip", "process.pid", "event", "é",
		"facility", "fields", strings.Repeat("x.", 30) + "x",
	}
	var members []string
	for range r.IntN(6) {
		text, _ := json.Marshal(names[r.IntN(len(names))])
		members = append(members, string(text)+":"+oddValue(r, depth))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// Thousands of odd documents: each arrives, and no stream stands still.
func TestEngine_FuzzedLinesAllArrive(t *testing.T) {
	faults.Engine(t)
	const streams, lines, indices = 4, 1500, 4
	var mu sync.Mutex
	letters := make(map[string]int)
	s := newScene(t)
	slowest := s.watch()
	var wg sync.WaitGroup
	for stream := range streams {
		sid := handshake.NewSID()
		s.sids = append(s.sids, sid)
		r := rand.New(rand.NewPCG(uint64(stream), 14))
		var batches []receiver.Batch
		for seq := uint64(1); seq <= lines; seq += 30 {
			b := s.batch(sid, seq, 30, func(int) string { return oddObject(r, 0) })
			b.At = day.AddDate(0, 0, -int(seq)%indices) // each day's index learns its types anew
			batches = append(batches, b)
		}
		wg.Go(func() {
			for _, b := range batches {
				result, _ := s.commitSoon(fmt.Sprint("fuzz ", stream, " ", b.Seq), b)
				mu.Lock()
				for _, rejected := range result.Rejected {
					letters[strings.SplitN(rejected.Error, ":", 2)[0]]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	other := slowest()
	n := 0
	for why, k := range letters {
		n += k
		t.Logf("%d dead letters: %s", k, why)
	}
	if other > patience {
		s.Errorf("another sender waited %v", other)
	}
	s.row("hostile", fmt.Sprintf("%d fuzzed documents; another sender's slowest commit %v", streams*lines,
		other.Round(10*time.Millisecond)), n, 0)
}
