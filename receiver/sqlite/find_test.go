package sqlite

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// What is passed by, where there are many streams, holds none of the newest lines;
// clocks may jump.
func TestSearch_FindsTheNewestOfManyStreams(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	w := newWriter(t)
	r := readerOf(t, w)
	type there struct {
		at  time.Time
		uid string
	}
	var streams [][]there
	for i := range 20 {
		sid, at := fmt.Sprintf("%016x", i), noon.Add(time.Duration(random.IntN(600))*time.Second)
		var all []there
		for seq := uint64(1); seq < 150; {
			b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: at}
			for range 1 + random.IntN(10) {
				b.Lines = append(b.Lines, []byte("tick"))
				all = append(all, there{at, handshake.UID(sid, b.End()-1)})
			}
			if _, err := commit(w, b); err != nil {
				t.Fatal(err)
			}
			seq = b.End()
			at = at.Add(time.Duration(random.IntN(60_000)) * time.Millisecond)
			if random.IntN(20) == 0 {
				at = at.Add(time.Duration(random.IntN(1200)-900) * time.Second)
			}
		}
		if i == 10 {
			indexAll(t, w)
		}
		streams = append(streams, all)
	}
	for _, limit := range []int{1, 7, 30, 100, 1000, 5000} {
		var want []there // of each stream those with the highest numbers, and of those the newest
		for _, all := range streams {
			want = append(want, all[max(0, len(all)-limit):]...)
		}
		slices.SortFunc(want, func(a, b there) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.uid, a.uid)) })
		want = want[:min(limit, len(want))]
		for _, text := range []string{"", "tick", "host:web1"} {
			got := search(t, r, text, limit)
			if len(got) != len(want) {
				t.Fatalf("%q, %d: got %d", text, limit, len(got))
			}
			for i := range got {
				if !got[i].Time.Equal(want[i].at) { // those of one moment may come in any order
					t.Fatalf("%q, limit %d: the %dth is of %v, want %v", text, limit, i, got[i].Time, want[i].at)
				}
			}
		}
	}
}

// A list of long lines must not hold them whole.
func TestSearch_KeepsLittleOfALongLineInAList(t *testing.T) {
	const lines, long = 300, 60 << 10
	w := newWriter(t)
	r := readerOf(t, w)
	for seq := range uint64(lines) {
		text := fmt.Sprintf(`{"trace":%q,"level":"error","program":"shop","message":"%sdone"}`, strings.Repeat("at x ", long/10), strings.Repeat("ab ", long/6))
		if _, err := commit(w, batch(sidA, seq+1, text)); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() (m runtime.MemStats) {
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m
	}
	before := heap().HeapAlloc
	res, err := r.Search(t.Context(), Request{Query: query(t, ""), Limit: lines, Cut: 100})
	if err != nil || len(res.Hits) != lines {
		t.Fatalf("%d hits, %v", len(res.Hits), err)
	}
	if held := int64(heap().HeapAlloc) - int64(before); held > lines*2<<10 {
		t.Errorf("%d hits hold %d KiB", lines, held>>10)
	}
	for _, h := range res.Hits {
		s := h.Summary
		if s == nil || s.Severity != "err" || s.Program != "shop" || len(s.Message) != 100 || len(h.Line) != 100 || h.Size < long {
			t.Fatalf("got %.200v, %+v", h, s)
		}
	}
	runtime.KeepAlive(res)
}
