package buffer

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"wsrelay/internal/codec"
)

func mustOpen(t *testing.T, dir string, o Options) (*Queue, *Recovery) {
	t.Helper()
	q, r, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close(context.Background()) })
	return q, r
}

func TestQueue_GivesLinesInOrderAcrossReopen(t *testing.T) {
	dir := t.TempDir()
	var want, got bytes.Buffer
	n := 0
	var acked uint64 = 1
	for round := range amount(6, 6, 2) {
		q, rec := mustOpen(t, dir, Options{Limit: 512 << 20})
		if len(rec.Gaps) > 0 {
			t.Fatalf("gaps %v", rec.Gaps)
		}
		if s := q.Stats(); s.Cursor != acked {
			t.Fatalf("round %d: cursor %d, want %d", round, s.Cursor, acked)
		}
		var last Range
		for range 2000 {
			var lines []byte
			k := 1 + rand.IntN(50)
			for range k {
				lines = fmt.Appendf(lines, "line %d of round %d %x\n", n, round,
					bytes.Repeat([]byte{byte(n)}, rand.IntN(300)))
				n++
			}
			want.Write(lines)
			var err error
			if last, err = q.Append(t.Context(), lines, k, Origin{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.WaitDurable(t.Context(), last.End); err != nil {
			t.Fatal(err)
		}
		stop := last.End
		if round%2 == 0 {
			stop -= 1000
		}
		for {
			b, err := q.TryNext()
			if err != nil {
				t.Fatal(err)
			}
			if b == nil || b.Range().First >= stop {
				break
			}
			lines, err := b.Lines(nil)
			if err != nil {
				t.Fatal(err)
			}
			got.Write(lines)
			if err := q.Ack(b.Range().End, Receipt{Seq: b.Range().End, UID: "u"}); err != nil {
				t.Fatal(err)
			}
			acked = b.Range().End
		}
		t.Logf("%+v", q.Stats())
		if err := q.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Fatalf("got %d bytes, want %d", got.Len(), want.Len())
	}
}

func TestQueue_AcksCostNoSync(t *testing.T) {
	syncs := func(ack bool) (n int) {
		inBubble(t, func() {
			fs := newStrictFS(1)
			q, _ := openIn(t, fs, Options{Limit: modelLimit})
			fs.setFault(func(_ int, call, _ string) error {
				if call == "sync" || call == "syncDir" {
					n++
				}
				return nil
			})
			for k := range uint64(20) {
				if _, err := q.Append(context.Background(), goldenLines(0), 5, Origin{}); err != nil {
					t.Fatal(err)
				}
				if err := q.WaitDurable(context.Background(), 5*k+6); err != nil {
					t.Fatal(err)
				}
				if b, err := q.TryNext(); err != nil || b == nil {
					t.Fatal(b, err)
				}
				if ack {
					if err := q.Ack(5*k+6, Receipt{}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(2 * time.Second) // CURSOR is written, and not synced
			}
			fs.setFault(nil)
			closeIn(t, q)
		})
		return n
	}
	if with, without := syncs(true), syncs(false); with != without || with < 20 {
		t.Errorf("%d syncs with acks, %d without", with, without)
	}
}

// Lines that a caller waits for while a sync of others is under way do not wait
// for --sync.
func TestQueue_SyncsForThoseWhoWaitForLaterLines(t *testing.T) {
	inBubble(t, func() {
		fs := newStrictFS(1)
		q, _ := openIn(t, fs, Options{Limit: modelLimit, Sync: time.Hour})
		defer closeIn(t, q)
		ctx, gone := context.WithCancel(context.Background())
		gone()
		later := false
		fs.setFault(func(_ int, call, name string) error {
			if call == "sync" && name == spareName && q.Stats().Durable == 1 && !later { // of the first lines
				later = true
				if _, err := q.Append(context.Background(), goldenLines(0), 5, Origin{}); err != nil {
					t.Error(err)
				}
				_ = q.WaitDurable(ctx, 11)
			}
			return nil
		})
		if _, err := q.Append(context.Background(), goldenLines(0), 5, Origin{}); err != nil {
			t.Fatal(err)
		}
		if err := q.WaitDurable(context.Background(), 6); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := q.Stats().Durable; got != 11 || !later {
			t.Errorf("durable up to %d, want 11", got)
		}
	})
}

func TestQueue_KeepsBlocksInBuffersOfTheirSize(t *testing.T) {
	for _, c := range []codec.Codec{codec.Raw, codec.S2} {
		inBubble(t, func() {
			q, _ := openIn(t, newStrictFS(1), Options{Limit: modelLimit, Codec: &c})
			defer closeIn(t, q)
			lines := bytes.Repeat([]byte("a line\n"), 1000)
			if _, err := q.Append(context.Background(), lines, 1000, Origin{}); err != nil {
				t.Fatal(err)
			}
			if err := q.WaitDurable(context.Background(), 1001); err != nil {
				t.Fatal(err)
			}
			b, err := q.TryNext()
			if err != nil || cap(b.buf) > 3*len(lines) {
				t.Errorf("%v: %d bytes for %d, %v", c, cap(b.buf), len(lines), err)
			}
		})
	}
}

func TestQueue_IsReadyWhileABlockWaitsAndOnceItIsClosed(t *testing.T) {
	q, _ := mustOpen(t, t.TempDir(), Options{})
	ready := func() bool { return closed(q.Ready()) }
	if ready() {
		t.Error("an empty queue is ready")
	}
	r, err := q.Append(t.Context(), []byte("a line\n"), 1, Origin{})
	mustBe(t, err)
	mustBe(t, q.WaitDurable(t.Context(), r.End))
	if !ready() { // the block may have come after a consumer found none
		t.Error("a queue with a block is not ready")
	}
	if _, err := q.TryNext(); err != nil || ready() {
		t.Errorf("after its only block: ready %v, %v", ready(), err)
	}
	mustBe(t, q.Close(t.Context()))
	if !ready() {
		t.Error("a closed queue is not ready: who waits for it hears of no end")
	}
}
