package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"wsrelay/receiver"
)

// TestHistogram_CountsWhatSearchFinds puts the lines that Search finds into the
// bars and compares.
func TestHistogram_CountsWhatSearchFinds(t *testing.T) {
	w := newWriter(t)
	r := readerOf(t, w)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		sid, seq := []string{sidA, sidB, sidC}[i%3], uint64(1+i/3*10)
		b := batch(sid, seq)
		// Not always onward: a clock that is set.
		b.At = noon.Add(time.Duration(i*37-rng.IntN(90)) * time.Second)
		for j := range 10 - i%2 { // with holes
			b.Lines = append(b.Lines, fmt.Appendf(nil, `{"status":%d,"word":"w%d"}`, 200+rng.IntN(3), j%4))
		}
		if _, err := commit(w, b); err != nil {
			t.Fatal(err)
		}
		if i == 40 {
			indexAll(t, w)
		}
	}
	for _, text := range []string{
		"", "w1", "w1 OR w2", "w1 -200", "-w1", "status:201", "host:web1 w3", "sid:" + sidB, "absent",
		"from:2026-03-14T12:10:20Z to:2026-03-14T12:20:40Z", "from:2026-03-14T12:10:20Z to:2026-03-14T12:20:40Z w1",
		"from:2026-03-14T12:10:20Z w1 -201", "from:2026-03-15", "from:2026-03-14T12:03:00Z to:2026-03-14T12:03:30Z",
	} {
		for _, bars := range []int{5, 60, 400} {
			q := query(t, text)
			h, err := r.Histogram(t.Context(), q, bars, time.Minute)
			if err != nil || !h.Complete || len(h.Counts) > bars {
				t.Fatalf("%s: got %d bars, complete %t, %v", text, len(h.Counts), h.Complete, err)
			}
			want := make([]int64, len(h.Counts))
			for _, hit := range search(t, r, text, 10_000) {
				want[hit.Time.Sub(h.From)/h.Width]++
			}
			if !slices.Equal(h.Counts, want) {
				t.Errorf("%q, %d bars of %v: got %d, want %d", text, len(want), h.Width, h.Counts, want)
			}
		}
	}
}

func TestHistogram_OfNothing(t *testing.T) {
	w := newWriter(t)
	h, err := readerOf(t, w).Histogram(t.Context(), &Query{}, 50, 0)
	if err != nil || len(h.Counts) != 0 || !h.Complete {
		t.Errorf("got %+v, %v", h, err)
	}
}

func TestBudget_EndsASearchWithWhatItHas(t *testing.T) {
	s := newStore(t)
	mustCommit(t, s, batch(sidA, 1, "a", "b"))
	res, err := s.Search(t.Context(), Request{Query: &Query{}, Limit: 10, Budget: 1})
	if err != nil || res.Complete {
		t.Errorf("search: got %+v, %v, want it incomplete", res, err)
	}
	h, err := s.Histogram(t.Context(), &Query{}, 10, 1)
	if err != nil || h.Complete {
		t.Errorf("histogram: got %+v, %v, want it incomplete", h, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Search(ctx, Request{Query: &Query{}, Limit: 10, Budget: time.Hour}); err == nil {
		t.Error("the caller gave up: got no error")
	}
}

func TestFollow_GivesWhatComesOnce(t *testing.T) {
	s := newStore(t)
	mustCommit(t, s, batch(sidA, 1, "old keep"), batch(sidA, 2, "old"))
	mark, err := s.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string)
	ended := make(chan error)
	go func() {
		ended <- r.Follow(ctx, query(t, "keep"), mark, func(hits []Hit) error {
			for _, h := range hits {
				select {
				case got <- h.UID[:1] + " " + h.Line:
				case <-ctx.Done():
				}
			}
			return nil
		})
	}()
	expect := func(want string) {
		t.Helper()
		if line := <-got; line != want {
			t.Fatalf("got %q, want %q", line, want)
		}
	}
	mustCommit(t, s, batch(sidA, 2, "old", "keep 1", "not this"))
	expect("a keep 1")
	mustCommit(t, s, batch(sidB, 5, "keep 2")) // a stream that is new
	expect("b keep 2")
	mustCommit(t, s, batch(sidA, 1, "old keep"), gap(sidA, 5, 5), batch(sidA, 10, "keep 3"))
	expect("a keep 3")
	// More than is read at once.
	var many []receiver.Batch
	for seq := uint64(11); seq < 11+3*followBytes/1000; seq++ {
		many = append(many, batch(sidA, seq, fmt.Sprintf("keep %01000d", seq)))
	}
	mustCommit(t, s, many...)
	for i := range many {
		expect(fmt.Sprintf("a keep %01000d", 11+i))
	}
	cancel()
	if err := <-ended; err != context.Canceled { //nolint:errorlint // promised as it is
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestLine_GivesOneByItsUID(t *testing.T) {
	s := newStore(t)
	mustCommit(t, s, batch(sidA, 1, "one", "two"))
	for uid, want := range map[string]string{
		sidA + "0000000000002": "two", sidA + "0000000000003": "", sidB + "0000000000001": "", sidA + "vvvvvvvvvvvvv": "",
	} {
		h, ok, err := s.Line(t.Context(), uid)
		if want == "" && uid[16] == 'v' {
			if ok {
				t.Errorf("%s: got %+v", uid, h)
			}
			continue
		}
		if err != nil || ok != (want != "") || h.Line != want || ok && h.UID != uid {
			t.Errorf("%s: got %+v, %t, %v, want %q", uid, h, ok, err, want)
		}
	}
	if _, _, err := s.Line(t.Context(), "x"); err == nil {
		t.Error("no UID: got no error")
	}
}
