package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"wsrelay/receiver/store/stdout"

	"wsrelay/receiver"
	"wsrelay/receiver/store/logs/row"
)

// newWatchedSite is a site over a store that can be watched only.
func newWatchedSite(t *testing.T, o Options) *site {
	t.Helper()
	live := NewLive(stdout.New(io.Discard))
	return &site{serve(t, NewWatch(live, o)), live, nil, map[string]uint64{}}
}

func search(t *testing.T, l *Live, text string) (found []string) {
	t.Helper()
	q, err := parseQuery(text, "", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.search(t.Context(), q, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range res.lines {
		found = append(found, l.Text)
	}
	return found
}

// refusing is a store with scripted answers.
type refusing struct {
	receiver.Store
	result receiver.Result
	err    error
}

func (r *refusing) Commit(_ context.Context, b []receiver.Batch) ([]receiver.Result, error) {
	return slices.Repeat([]receiver.Result{r.result}, len(b)), r.err
}

func TestLive_ShowsWhatIsStoredAndNothingElse(t *testing.T) {
	store := &refusing{}
	l := NewLive(store)
	commit := func(seq uint64, lines ...string) {
		b := receiver.Batch{SID: sidA, Host: "web1", Seq: seq, At: time.Now()}
		for _, line := range lines {
			b.Lines = append(b.Lines, []byte(line))
		}
		if _, err := l.Commit(t.Context(), []receiver.Batch{b}); !errors.Is(err, store.err) {
			t.Errorf("got %v", err)
		}
		for _, line := range b.Lines {
			copy(line, "xxxxxxxxxxx") // its memory is used again
		}
	}
	store.err = errors.New("down")
	commit(1, "not stored")
	store.err, store.result = nil, receiver.Result{Dup: 1}
	commit(1, "was there")
	store.result = receiver.Result{New: 2}
	commit(2, "one", "two")
	commit(4, "")
	if got := search(t, l, ""); !slices.Equal(got, []string{"", "two", "one"}) {
		t.Errorf("got %q", got)
	}
	if got := search(t, l, "two host:web1"); !slices.Equal(got, []string{"two"}) {
		t.Errorf("got %q", got)
	}
	for query, want := range map[string][]string{
		`{host="web1"} one`: {"one"}, `{host="web2"}`: nil, "_time:1h two": {"two"}, "_time:1h offset 1h": nil,
		"wsrelay.seq:=" + row.SeqValue(2): {"one"}, `host:in("web2", "web1") -one -two`: {""},
		`host:in(* | fields x)`: nil,
	} {
		if got := search(t, l, query); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	if found, err := l.line(t.Context(), sidA+"0000000000003", time.Time{}); err != nil || found == nil ||
		found.text != "two" {
		t.Errorf("got %v, %v", found, err)
	}
	if found, _ := l.line(t.Context(), sidA+"0000000000001", time.Time{}); found != nil {
		t.Error("it shows a line that it was not told to be stored")
	}
}

func TestLive_KeepsABoundedNumberOfBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	for name, line := range map[string]string{
		"empty": "", "long": strings.Repeat("x", 2*keepLine),
		"usual": strings.Repeat("x", 200),
	} {
		l := NewLive(stdout.New(io.Discard))
		for seq := uint64(1); seq < 600; seq += 300 {
			b := receiver.Batch{SID: sidA, Host: "web1", Seq: seq * 1000, At: time.Now()}
			for range 300_000 / max(1, len(line)/100) {
				b.Lines = append(b.Lines, []byte(line))
			}
			if _, err := l.Commit(t.Context(), []receiver.Batch{b}); err != nil {
				t.Fatal(err)
			}
			n, lines := 0, newest(l)
			for i := range lines {
				n += len(lines[i].text) + keepAbout
			}
			if last := lines[len(lines)-1]; n != l.cost || n > keepLines || n < keepLines/2 || last.seq != b.End()-1 ||
				last.size != len(line) {
				t.Errorf("%s: %d bytes, it says %d; the last is %d of %d, with %d bytes", name, n, l.cost, last.seq,
					b.End()-1, last.size)
			}
			if len(l.text) > 3*keepLines {
				t.Errorf("%s: %d bytes of text", name, len(l.text))
			}
		}
	}
}

func newest(l *Live) []keptLine {
	lines, _, _ := l.since(0)
	return lines
}

// A client that asks from some line on gets exactly what came since, whatever batches it
// came in.
func TestLive_GivesWhatCameSince(t *testing.T) {
	l := NewLive(stdout.New(io.Discard))
	var want []string
	for n := range 40 {
		b := receiver.Batch{SID: sidA, Host: "web1", Seq: uint64(len(want) + 1), At: time.Now()}
		for i := range n%5 + 1 {
			line := fmt.Sprintf("%d %d %s", n, i, strings.Repeat("y", n*20_000)) // the later ones are cut, and the first go
			b.Lines = append(b.Lines, []byte(line))
			want = append(want, line[:min(len(line), keepLine)])
		}
		if _, err := l.Commit(t.Context(), []receiver.Batch{b}); err != nil {
			t.Fatal(err)
		}
		for at := 0; at <= len(want); at += 1 + len(want)/7 {
			lines, missed, _ := l.since(at)
			if at+missed+len(lines) != len(want) {
				t.Fatalf("since %d: %d missed and %d lines of %d", at, missed, len(lines), len(want))
			}
			for i, k := range lines {
				if no := at + missed + i; k.text != want[no] || k.seq != uint64(no+1) {
					t.Fatalf("line %d is %.20q with number %d, want %.20q", no, k.text, k.seq, want[no])
				}
			}
		}
	}
}

func TestLive_CountsWhatComesTooFast(t *testing.T) {
	l := NewLive(stdout.New(io.Discard))
	q, err := parseQuery("", "", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	watcher := l.watch()
	const all = 2 * keepLines / keepAbout
	b := receiver.Batch{SID: sidA, Host: "web1", Seq: 1, At: time.Now(), Lines: make([][]byte, all/2)}
	for range 2 {
		if _, err := l.Commit(t.Context(), []receiver.Batch{b}); err != nil {
			t.Fatal(err)
		}
		b.Seq = b.End()
	}
	enough := errors.New("enough")
	err = watcher.follow(t.Context(), q, func(lines []line, missed int) error {
		if len(lines)+missed != all || missed != all/2 {
			t.Errorf("got %d lines, %d missed", len(lines), missed)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}

func TestWatch_TellsHowTheReceiverDoes(t *testing.T) {
	now := receiver.State{Since: time.UnixMilli(1000), Stored: 7, Dead: 2, Lost: 3}
	now.Connected = 51
	s := newWatchedSite(t, Options{
		State: func() receiver.State { return now }, Where: "In OpenSearch.",
		Link: "https://kibana.example",
	})
	status, body, _ := s.get(t, "/api/health")
	for _, want := range []string{
		`"where":"In OpenSearch."`, `"link":"https://kibana.example"`, `"stored":7`,
		`"dead":2`, `"lost":3`, `"connected":51`,
	} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("got %d, %s, want %s", status, body, want)
		}
	}
	if strings.Contains(body, `"down"`) || strings.Contains(body, `"unready"`) {
		t.Errorf("got %s", body)
	}
	now.StoreDown, now.StoreErr = time.UnixMilli(9), errors.New("<b>no disk</b>")
	if _, body, _ := s.get(t, "/api/health"); !strings.Contains(body, `"down":9`) ||
		!strings.Contains(body, `no disk`) {
		t.Errorf("got %s", body)
	}
	if status, _, _ := s.get(t, "/api/histogram"); status != http.StatusNotFound {
		t.Errorf("a histogram: %d", status)
	}
}

// There may be thousands of senders: all are counted, the worst are named first, and
// any can be found.
func TestWatch_NamesSendersInTrouble(t *testing.T) {
	now := time.Now()
	var all []receiver.Sender
	for i := range 5000 {
		s := receiver.Sender{
			Host: fmt.Sprintf("web%04d", i), SID: fmt.Sprintf("%016x", i), First: now, Seen: now,
			Line: now,
		}
		if i%100 == 7 {
			s.Line = now.Add(-2 * time.Hour)
		}
		all = append(all, s)
	}
	s := newWatchedSite(t, Options{Senders: func() []receiver.Sender { return all }})
	ask := func(path string) (a struct {
		Total, Matching int
		Counts          map[string]int
		Senders         []receiver.Report
	},
	) {
		t.Helper()
		status, body, _ := s.get(t, path)
		if err := json.Unmarshal([]byte(body), &a); status != 200 || err != nil {
			t.Fatal(status, err)
		}
		return a
	}
	a := ask("/api/senders")
	if a.Total != 5000 || a.Counts["silent"] != 50 || a.Counts["delivering"] != 4950 || len(a.Senders) != fewSenders ||
		a.Senders[49].State != receiver.Silent || a.Senders[50].State != receiver.Delivering {
		t.Errorf("got %d senders, %v, %d of them named", a.Total, a.Counts, len(a.Senders))
	}
	if a := ask("/api/senders?all=1"); len(a.Senders) != 5000 {
		t.Errorf("of all %d are named", len(a.Senders))
	}
	if a := ask("/api/senders?q=WEB123"); a.Matching != 10 || len(a.Senders) != 10 || a.Senders[0].Host != "web1230" {
		t.Errorf("%d are found, %d named", a.Matching, len(a.Senders))
	}
	if a := ask("/api/senders?q=silent"); a.Matching != 50 {
		t.Errorf("%d are silent", a.Matching)
	}
}

// A filter for the last minutes is one for the minutes before each line, not before
// the view was opened.
func TestLive_FollowsTheLastMinutes(t *testing.T) {
	l := NewLive(stdout.New(io.Discard))
	q, err := parseQuery("_time:5m", "", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	watcher := l.watch()
	for opened := time.Now(); !time.Now().After(opened.Add(time.Millisecond)); {
		runtime.Gosched() // the line must be newer than the query
	}
	b := receiver.Batch{SID: sidA, Host: "web1", Seq: 1, At: time.Now(), Lines: [][]byte{[]byte("new")}}
	if _, err := l.Commit(t.Context(), []receiver.Batch{b}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	enough := errors.New("enough")
	if err := watcher.follow(ctx, q, func([]line, int) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestWatch_FindsWithinATime(t *testing.T) {
	s := newWatchedSite(t, Options{})
	at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	for i, line := range []string{"before", "first", "last", "after"} {
		s.add(t, sidA, "web1", at.Add(time.Duration(i)*time.Hour), line)
	}
	_, body, _ := s.get(t, "/api/search?from=2026-03-14T13:00:00Z&to=2026-03-14T15:00:00Z")
	if strings.Count(body, `"uid"`) != 2 || !strings.Contains(body, `"first"`) || !strings.Contains(body, `"last"`) {
		t.Errorf("got %s", body)
	}
}
