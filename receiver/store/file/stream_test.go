package file

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"wsrelay/receiver"
)

func TestStream_ForgetsTheLowestFirst(t *testing.T) {
	st := (&Store{streams: map[string]*stream{}}).stream(sid)
	many := make(sums, 4*rememberLines)
	st.add(run{Seq: 1, N: rememberLines, Sums: many})
	st.add(run{Seq: 1 + rememberLines, N: 1, Sums: make(sums, 4)})
	if len(st.runs) != 1 || st.lines != rememberLines || st.runs[0].N != rememberLines+1 ||
		st.runs[0].Sums.len() != rememberLines {
		t.Errorf("got %d runs, %d checksums", len(st.runs), st.lines)
	}
	for i := range uint64(2 * rememberRanges) {
		st.add(run{Seq: 10_000_000 + 2*i, N: 1, Sums: make(sums, 4)})
	}
	if len(st.runs) != rememberRanges || st.lines != rememberRanges {
		t.Errorf("got %d runs, %d checksums", len(st.runs), st.lines)
	}
}

// TestStream_KnowsWhatWasCommitted adds ranges in any order beside a plain set.
func TestStream_KnowsWhatWasCommitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := (&Store{streams: map[string]*stream{}}).stream(sid)
		known := map[uint64]byte{}
		for range rapid.IntRange(1, 30).Draw(t, "commits") {
			b := receiver.Batch{SID: sid, Seq: rapid.Uint64Range(1, 60).Draw(t, "seq")}
			for i := range rapid.IntRange(1, 20).Draw(t, "n") {
				line := byte('a')
				if was, ok := known[b.Seq+uint64(i)]; ok {
					line = was
				}
				b.Lines = append(b.Lines, []byte{line})
			}
			if at := rapid.IntRange(-20, len(b.Lines)-1).Draw(t, "another line"); at >= 0 {
				b.Lines[at] = []byte{'b'}
			}
			want, diverges := 0, false
			for i, line := range b.Lines {
				was, ok := known[b.Seq+uint64(i)]
				diverges = diverges || ok && was != line[0]
				if !ok {
					want++
				}
			}
			var a pendingWrite
			added, err := st.sort(&b, a.lines)
			if (err != nil) != diverges || err == nil && added != want {
				t.Fatalf("got new %d, %v; want %d, diverged %t", added, err, want, diverges)
			}
			if err != nil {
				continue
			}
			for _, r := range a.runs {
				st.add(r)
			}
			for i, line := range b.Lines {
				known[b.Seq+uint64(i)] = line[0]
			}
		}
		n := uint64(0)
		for _, r := range st.runs {
			n += r.N
		}
		if n != uint64(len(known)) || !slices.IsSortedFunc(st.runs,
			func(a, b run) int { return int(a.end()+1) - int(b.Seq) }) {
			t.Fatalf("%d numbers in %+v, want %d", n, st.runs, len(known))
		}
	})
}
