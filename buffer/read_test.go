package buffer

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// threeBlocks is a queue of the lines 1 to 9 in blocks of three, of which
// nothing is in memory.
func threeBlocks(t *testing.T) (*Queue, *strictFS) {
	t.Helper()
	fs := newStrictFS(1)
	segmentOfBlocks(t, fs, 1, 1, lineBlock(1, 4), lineBlock(4, 7), lineBlock(7, 10))
	segmentOfBlocks(t, fs, 2, 10)
	q, _ := openIn(t, fs, Options{Limit: modelLimit})
	return q, fs
}

func (s *strictFS) setFault(f func(n int, call, name string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// takeFirst takes out the first block.
func takeFirst(t *testing.T, q *Queue) {
	t.Helper()
	if b, err := q.TryNext(); err != nil || b.Range() != (Range{1, 4}) {
		t.Fatalf("got %v, %v", b, err)
	}
}

func TestQueue_WaitsForADiskThatCannotBeRead(t *testing.T) {
	for _, cached := range []int{0, 1} { // nothing; headers that are in some memory
		inBubble(t, func() {
			q, fs := threeBlocks(t)
			defer closeIn(t, q)
			takeFirst(t, q)
			reads := 1
			fs.setFault(func(_ int, call, name string) error {
				if name != segmentName(1) {
					return nil
				}
				switch call {
				case "open":
					reads = 0
				case "read":
					if reads++; reads > cached {
						return errInjected
					}
				}
				return nil
			})
			for range 3 * maxReadFailures {
				if b, err := q.TryNext(); !errors.Is(err, unix.EIO) {
					t.Fatalf("got %v, %v", b, err)
				}
			}
			fs.setFault(nil)
			if b, err := q.TryNext(); err != nil || b.Gap() != nil || b.Range() != (Range{4, 7}) {
				t.Errorf("got %v, %v: want the lines, now that they can be read", b, err)
			}
		})
	}
}

func TestQueue_DropsABlockThatAloneCannotBeRead(t *testing.T) {
	inBubble(t, func() {
		q, fs := threeBlocks(t)
		defer closeIn(t, q)
		takeFirst(t, q)
		reads := 1
		fs.setFault(func(_ int, call, name string) error {
			if name != segmentName(1) {
				return nil
			}
			switch call { // the file's headers, the payload, what is after it; opened anew after each failure
			case "open":
				reads = 0
			case "read":
				if reads++; reads == 2 {
					return errInjected
				}
			}
			return nil
		})
		for range maxReadFailures - 1 {
			if b, err := q.TryNext(); !errors.Is(err, unix.EIO) {
				t.Fatalf("got %v, %v", b, err)
			}
		}
		b, err := q.Next(context.Background())
		if err != nil || b.Gap() == nil || b.Range() != (Range{4, 7}) {
			t.Fatalf("got %v, %v, want a gap", b, err)
		}
		if b, err = q.TryNext(); err != nil || b.Gap() != nil || b.Range() != (Range{7, 10}) {
			t.Errorf("got %v, %v, want what is behind the gap", b, err)
		}
	})
}

func TestQueue_RewoundWhileItReadsGivesWhatItWasRewoundTo(t *testing.T) {
	inBubble(t, func() {
		q, fs := threeBlocks(t)
		defer closeIn(t, q)
		takeFirst(t, q)
		rewound := false
		fs.setFault(func(_ int, call, name string) error {
			if call == "read" && name == segmentName(1) && !rewound {
				rewound = true
				return q.Rewind(1)
			}
			return nil
		})
		if b, err := q.TryNext(); err != nil || b.Range() != (Range{1, 4}) || !rewound {
			t.Errorf("got %v, %v (rewound %v)", b.Range(), err, rewound)
		}
	})
}

func TestQueue_ReadsIntoWhatWasReleased(t *testing.T) {
	dir := t.TempDir()
	o := Options{Codec: raw}
	q, _ := mustOpen(t, dir, o)
	var want []byte
	for k := range uint64(8) {
		line := bytes.Repeat([]byte{byte('a' + k)}, MaxBlock-int(k)-1) // of different lengths
		want = append(append(want, line...), '\n')
		if _, err := q.Append(t.Context(), append(line, '\n'), 1, Origin{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	q, _ = mustOpen(t, dir, o)
	var got []byte
	memory := map[*byte]bool{}
	for range 8 {
		b, err := q.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		memory[&b.Encoded()[0]] = true
		got = append(got, b.Encoded()...)
		q.Release(b)
	}
	if !bytes.Equal(got, want) || len(memory) > 2 {
		t.Errorf("the lines are as they were: %v; %d pieces of memory", bytes.Equal(got, want), len(memory))
	}
}

// damagedFirst is threeBlocks, of which the first is damaged, on a disk that
// takes nothing, so that there cannot be a gap.
func damagedFirst(t *testing.T) (*Queue, *strictFS) {
	q, fs := threeBlocks(t)
	fs.damage(segmentName(1), headEnd+headerLen, func(b []byte) { b[0]++ })
	fs.setFault(func(_ int, call, _ string) error {
		if call == "write" {
			return errInjected
		}
		return nil
	})
	return q, fs
}

func TestQueue_WaitsForAGapNoLongerThanItIsAsked(t *testing.T) {
	inBubble(t, func() {
		q, fs := damagedFirst(t)
		for range 2 {
			if b, err := q.TryNext(); b != nil || err != nil {
				t.Errorf("got %v, %v while the gap is not durable", b, err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			if b, err := q.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, %v, want the end of the wait", b, err)
			}
			cancel()
		}
		fs.setFault(nil)
		if b, err := q.Next(context.Background()); err != nil || b.Gap() == nil || b.Range() != (Range{1, 4}) {
			t.Errorf("got %v, %v, want the gap", b, err)
		}
		closeIn(t, q)
	})
}

func TestQueue_ClosedWhileItReadsSaysSo(t *testing.T) {
	inBubble(t, func() {
		q, fs := threeBlocks(t)
		fs.setFault(func(_ int, call, name string) error {
			if call == "read" && name == segmentName(1) && !q.isClosed() {
				fs.mu.Unlock()
				defer fs.mu.Lock()
				closeIn(t, q)
			}
			return nil
		})
		if b, err := q.TryNext(); !errors.Is(err, ErrClosed) || q.reader.f != nil {
			t.Errorf("got %v, %v; the file is open: %v", b, err, q.reader.f != nil)
		}
	})
}

func TestQueue_ClosedWhileItWaitsForAGapSaysSo(t *testing.T) {
	inBubble(t, func() {
		q, _ := damagedFirst(t)
		ended := make(chan error)
		go func() {
			_, err := q.Next(context.Background())
			ended <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = q.Close(ctx) // the gap cannot be kept
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}
