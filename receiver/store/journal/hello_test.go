package journal

import (
	"slices"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// What a sender has receipts for is in the store, or named.
func TestBegin_NamesWhatTheStoreWasToHave(t *testing.T) {
	const other = "another000stream"
	lines := func(sid, host string, seq uint64, n int) receiver.Batch {
		return receiver.Batch{
			SID: sid, Host: host, Seq: seq, At: time.Now(),
			Lines: slices.Repeat([][]byte{[]byte("x")}, n),
		}
	}
	for name, tt := range map[string]struct {
		has   []receiver.Batch
		again bool // the store is opened again
		hello handshake.Hello
		want  Spans
	}{
		"a new queue": {nil, false, handshake.Hello{SID: "s", Host: "h", Acked: 1, Head: 9}, nil},
		"all is there": {
			[]receiver.Batch{lines("s", "h", 1, 8)},
			true,
			handshake.Hello{SID: "s", Host: "h", Acked: 9, Head: 20},
			nil,
		},
		"receipts are behind": {
			[]receiver.Batch{lines("s", "h", 1, 8)},
			true,
			handshake.Hello{SID: "s", Host: "h", Acked: 5, Head: 20},
			nil,
		},
		"restored": {
			[]receiver.Batch{lines("s", "h", 1, 8)},
			true,
			handshake.Hello{SID: "s", Host: "h", Acked: 15, Head: 20},
			Spans{{9, 15}},
		},
		"emptied": {
			nil, false,
			handshake.Hello{SID: "s", Host: "h", Acked: 15, Head: 20},
			Spans{{1, 15}},
		},
		"emptied, with a receipt": {
			[]receiver.Batch{lines(other, "h", 1, 8)},
			true,
			handshake.Hello{SID: "s", Host: "h", Acked: 15, Head: 20, Proof: &handshake.Proof{UID: "s000"}},
			Spans{{1, 15}},
		},
		"a stream that began within its queue": {[]receiver.Batch{lines(other, "h", 1, 8)}, false, handshake.Hello{SID: "s", Host: "h", Acked: 9, Head: 20}, nil},
		"the same, of a store with others": {
			[]receiver.Batch{lines(other, "k", 1, 8)},
			true,
			handshake.Hello{SID: "s", Host: "h", Acked: 9, Head: 20},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			with(t, nil, func(w *world) {
				for _, b := range tt.has {
					if _, err := w.j.Commit(t.Context(), []receiver.Batch{b}); err != nil {
						t.Fatal(err)
					}
				}
				w.wait()
				if tt.again {
					w.crash(false, 0)
				}
				w.j.Begin(&tt.hello)
				i := slices.IndexFunc(w.j.Streams(), func(s Stream) bool { return s.SID == "s" })
				var got, gaps Spans
				if i >= 0 {
					got, gaps = w.j.Streams()[i].Lacks, w.j.Streams()[i].Gaps
				}
				if !slices.Equal(got, tt.want) || len(tt.want) > 0 && !gaps.covers(tt.want[0][0], tt.want.End()) {
					t.Errorf("lacks %v, gaps %v; want %v", got, gaps, tt.want)
				}
			})
		})
	}
}
