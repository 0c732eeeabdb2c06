package elastic_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/elastic"
	"wsrelay/receiver/store/elastic/setup"
	"wsrelay/test/faults"
)

// useStream makes a data stream with the templates of setup, of so many shards.
func useStream(t *testing.T, shards int) (name string) {
	t.Helper()
	faults.NeedDataStreams(t)
	name = "logs-x" + handshake.NewSID() + "-default"
	c, err := elastic.Dial(faults.Engine(t), elastic.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := setup.Run(t.Context(), c, setup.Options{
		Stream: name,
		Report: func(s setup.Step) { t.Log(s.Did, s.What) },
	}); err != nil {
		t.Fatal(err)
	}
	faults.Ask(t, http.MethodPut, "/_component_template/wsrelay-retain-"+name,
		fmt.Sprintf(`{"template":{"settings":{"number_of_shards":%d}}}`, shards))
	faults.MakeDataStream(t, name)
	return name
}

func openStream(t *testing.T, name string) *elastic.Store {
	t.Helper()
	s, err := elastic.Open(t.Context(), faults.Engine(t), elastic.Options{DataStream: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Odd lines, of which many meet a trial, in a data stream of several shards that
// is rolled over again and again; each is sent again by another receiver.
func TestEngine_DataStreamTakesEveryLineOnce(t *testing.T) {
	name := useStream(t, 3)
	s := openStream(t, name)
	sid := handshake.NewSID()
	var lines, crcs []string
	for _, line := range hostile() {
		lines = append(lines, line)
	}
	seq := uint64(1)
	var all []receiver.Batch
	for i := 0; i < len(lines); i += 10 {
		b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: day}
		for _, line := range lines[i:min(len(lines), i+10)] {
			b.Lines = append(b.Lines, []byte(line))
			crcs = append(crcs, handshake.CRC([]byte(line)))
		}
		all = append(all, b)
		seq = b.End()
	}
	letters := 0
	for i, b := range all {
		r, err := s.Commit(t.Context(), []receiver.Batch{b})
		if err != nil {
			t.Fatal(err)
		}
		letters += len(r[0].Rejected)
		if i%4 == 3 {
			faults.Ask(t, http.MethodPost, "/"+name+"/_rollover", "")
		}
	}
	again, err := openStream(t, name).Commit(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range again {
		if r.New > 0 {
			t.Errorf("batch %d again: %d new documents", i, r.New)
		}
	}
	stored := make(map[string]int)
	indices := make(map[string]bool)
	documents, asText := 0, 0
	faults.Each(t, name, `{"match_all":{}}`, func(index, id string, source gjson.Result) {
		documents++
		indices[index] = true
		if n := source.Get("wsrelay.seq").Int(); n > 0 && source.Get("wsrelay.crc").Str != crcs[n-1] {
			t.Errorf("line %d is another", n)
		}
		if source.Get("wsrelay.why").Exists() {
			asText++
		}
		stored[id]++
	})
	if len(indices) < 3 {
		t.Errorf("all is in %v: nothing is tested", indices)
	}
	faults.Row{
		Rule: "stream", Fault: fmt.Sprintf("odd lines in a data stream of 3 shards, in %d backing indices, sent again",
			len(indices)), Lines: len(lines), Documents: documents, AsText: asText, Dead: letters,
		Lost: len(lines) - len(stored) - letters, Doubled: documents - len(stored),
	}.Tell(t)
}
