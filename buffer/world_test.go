package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"wsrelay/internal/codec"
)

// inBubble runs f with synthetic time. Rapid stops a failed case by a panic,
// which has to reach rapid's own goroutine.
func inBubble(t *testing.T, f func()) {
	t.Helper()
	var stopped any
	synctest.Test(t, func(*testing.T) {
		defer func() { stopped = recover() }()
		f()
	})
	if stopped != nil {
		panic(stopped)
	}
}

// failer is what a test and a case of rapid have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is a queue on a strict file system, the pipe that feeds it, the
// receiver, and an oracle that knows every line and what was promised of it.
type world struct {
	failer
	fs *strictFS
	q  *Queue
	o  Options

	made     int
	lines    map[uint64]string   // what each number below head must hold
	hurt     map[uint64]bool     // numbers in what was damaged: they may become a gap
	former   map[uint64][]string // what numbers held that were cut, after damage
	gone     map[uint64]bool     // numbers that came out as a gap
	named    map[uint64]bool     // numbers that a recovery said were lost
	ever     map[string]string   // what came out under each UID, in any life
	where    map[string]string   // under which UID a line came out
	head     uint64
	reused   uint64 // from here on a stream may have other lines, in a receiver that knew the future of a backup
	unsure   uint64 // from here on nothing was recorded: damage may cut what is durable
	proved   uint64 // WaitDurable has said so
	acked    uint64
	out      uint64 // next number to come out
	ranges   []Range
	moved    bool         // the directory is in another place, or lacks its newest file: a new stream is due
	scarred  bool         // something was damaged once
	beyond   bool         // CURSOR may name a segment that is gone: a new stream may come again
	diverged bool         // IDENTITY alone knows which stream some numbers belong to
	faulty   bool         // calls may fail
	failed   *atomic.Bool // one that has to has; nil: none has to
	took     int64        // bytes on disk at the start: what was in memory at a Close may pass the limit

	intake uint64       // the pipe; a power cut makes another
	stream []streamLine // all that was ever taken from it
	end    int64        // its offset
	mark   int64        // up to here the spool is freed
}

// streamLine is a line's place in its pipe.
type streamLine struct {
	text       string
	start, end int64
}

const (
	modelLimit = 4 << 20 // segments of 512 KiB: blocks are not larger than a quarter
	slack      = 5 << 18 // a block, and gaps, beyond the limit
)

// raw keeps blocks as long as their lines.
var raw = new(codec.Raw)

func newWorld(f failer, seed uint64, o Options) *world {
	w := &world{
		failer: f, fs: newStrictFS(seed), o: o,
		lines: map[uint64]string{}, former: map[uint64][]string{}, hurt: map[uint64]bool{}, gone: map[uint64]bool{},
		named: map[uint64]bool{},
		ever:  map[string]string{}, where: map[string]string{},
		head: 1, reused: math.MaxUint64, proved: 1, acked: 1, out: 1, unsure: 1, intake: 7,
	}
	w.o.Limit = modelLimit
	return w
}

// append takes n lines of about size bytes from the pipe, unless the queue
// would make it wait.
func (w *world) append(n, size int) {
	w.Helper()
	w.q.mu.Lock()
	ahead := w.q.unsynced
	w.q.mu.Unlock()
	if ahead+int64(n*size) > aheadLimit/2 {
		return
	}
	first := len(w.stream)
	for range n {
		w.made++
		text := fmt.Sprintf("line %d %s\n", w.made, noise(w.made, size))
		w.stream = append(w.stream, streamLine{text, w.end, w.end + int64(len(text))})
		w.end += int64(len(text))
	}
	w.feed(first)
}

// skip takes bytes from the pipe that are no line.
func (w *world) skip(n int) {
	w.end += int64(n)
	defer synctest.Wait()
	_, _ = w.q.Append(context.Background(), nil, 0, Origin{Intake: w.intake, End: w.end})
}

// feed appends the stream's lines from the k-th on, as the intake does: some at
// a time. The first of them go to the disk at once.
func (w *world) feed(k int) {
	w.Helper()
	time.Sleep(syncGap)
	for k < len(w.stream) {
		var lines []byte
		n := uint64(0)
		for ; k < len(w.stream) && n < 20 && len(lines) < MaxBlock/8; k++ {
			w.lines[w.head+n] = w.stream[k].text
			lines = append(lines, w.stream[k].text...)
			n++
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		r, err := w.q.Append(ctx, lines, int(n), Origin{Intake: w.intake, End: w.stream[k-1].end})
		cancel()
		if err != nil || r != (Range{w.head, w.head + n}) {
			w.Fatalf("append at %d: %v, %v", w.head, r, err)
		}
		w.head = r.End
		synctest.Wait()
	}
}

var static = func() string {
	rnd := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for range 1 << 16 {
		b.WriteByte("0123456789abcdef"[rnd.IntN(16)])
	}
	return b.String()
}()

// noise does not compress away.
func noise(seed, n int) string {
	off := seed * 7919 % (len(static) - n)
	return static[off : off+n]
}

// wait is for what was appended to be durable, for a while.
func (w *world) wait() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if w.q.WaitDurable(ctx, w.head) != nil {
		return false
	}
	w.proved = w.head
	return true
}

// idle is long enough for a seal and the cursor.
func (w *world) idle() {
	time.Sleep(3 * time.Second)
	synctest.Wait()
}

// release frees what the spool holds and the disk has.
func (w *world) release() { w.mark = max(w.mark, w.q.IntakeEnd(w.intake)) }

// deliver takes up to n blocks out.
func (w *world) deliver(n int) {
	w.Helper()
	for range n {
		if !w.next() {
			return
		}
	}
}

// next takes one block out and compares it (I3, I7).
func (w *world) next() bool {
	w.Helper()
	synctest.Wait()
	b, err := w.tryNext()
	if errors.Is(err, unix.EIO) || errors.Is(err, errCrashed) {
		return false
	}
	if err != nil {
		w.Fatalf("next: %v", err)
	}
	if b == nil {
		return false
	}
	r := b.Range()
	if r.First != w.out || r.End > w.head || r.Len() == 0 {
		w.Fatalf("got %v, want what begins at %d, head %d", r, w.out, w.head)
	}
	if b.Gap() != nil {
		w.gap(b)
	} else if !w.data(b) {
		return false // the session ends
	}
	w.out = r.End
	w.ranges = append(w.ranges, r)
	return true
}

// tryNext is TryNext, and waits a while for a gap that is on its way.
func (w *world) tryNext() (*Block, error) {
	b, err := w.q.TryNext()
	if b != nil || err != nil || !gapIsNear(w.q) {
		return b, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if b, err = w.q.Next(ctx); errors.Is(err, context.DeadlineExceeded) {
		return nil, nil //nolint:nilnil // as TryNext
	}
	return b, err
}

// gapIsNear: one is on its way, or has just come, or will if the writer finds nothing.
func gapIsNear(q *Queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.gaps.pending) > 0 || q.missed != nil && !q.missed.inspected || q.availableLocked()
}

func (w *world) gap(b *Block) {
	w.Helper()
	for seq := b.Range().First; seq < b.Range().End; seq++ {
		switch given := w.ever[uid(b, seq)] != "" && seq < w.reused; {
		case w.gone[seq] || w.hurt[seq] || w.named[seq]:
		case b.Gap().Why == "overflow" && w.o.DropOldest && (b.Gap().Maybe || !given):
		default:
			w.Fatalf("gap %v %+v has %d (promised %d, given out %v, acked %d)", b.Range(), *b.Gap(), seq, w.proved,
				given, w.acked)
		}
		w.gone[seq] = true
	}
}

// data compares lines; false: the receiver refuses them.
func (w *world) data(b *Block) bool {
	w.Helper()
	lines, err := b.Lines(nil)
	if err != nil {
		w.Fatalf("lines: %v", err)
	}
	if w.refuse(b, lines) {
		return false
	}
	seq := b.Range().First
	for line := range bytes.Lines(lines) {
		want, id := w.lines[seq], uid(b, seq)
		if w.hurt[seq] && slices.Contains(w.former[seq], string(line)) { // the later segment is lost (R9)
			seq++
			continue
		}
		if string(line) != want {
			w.Fatalf("seq %d: got %.40q, want %.40q", seq, line, want)
		}
		if w.gone[seq] && !w.hurt[seq] {
			w.Fatalf("seq %d came out as a gap before", seq)
		}
		if was := w.ever[id]; was != "" && was != want {
			w.Fatalf("uid %s names %.40q and %.40q", id, was, want)
		}
		if was := w.where[want]; was != "" && was != id {
			w.Fatalf("%.40q came out as %s and %s", want, was, id)
		}
		w.ever[id], w.where[want] = want, id
		seq++
	}
	if seq != b.Range().End {
		w.Fatalf("%v has lines up to %d", b.Range(), seq)
	}
	return true
}

func uid(b *Block, seq uint64) string { return fmt.Sprint(b.SID(), " ", seq) }

// ack acknowledges the first n blocks that are out.
func (w *world) ack(n int) {
	w.Helper()
	n = max(0, min(n, len(w.ranges)))
	if n == 0 {
		return
	}
	to := w.ranges[n-1].End
	if err := w.q.Ack(to, Receipt{Seq: to, UID: "u"}); err != nil {
		w.Fatalf("ack %d: %v", to, err)
	}
	w.acked, w.ranges = to, w.ranges[n:]
	if err := w.q.Ack(w.out+1, Receipt{}); !errors.Is(err, ErrAck) {
		w.Fatalf("an ack of what was not given out: %v", err)
	}
}

// rewind makes the k-th block that is out, and all after it, come again.
func (w *world) rewind(k int) {
	w.Helper()
	if err := w.q.Rewind(w.ranges[k].End - 1); err != nil {
		w.Fatalf("rewind: %v", err)
	}
	w.out, w.ranges = w.ranges[k].First, w.ranges[:k]
}

var errInjected = fmt.Errorf("injected: %w", unix.EIO)

// fault makes a call fail, or not.
type fault func(n int, call, name string) error

// setFault makes calls fail as f says, until the process ends or another takes
// its place: then one must have.
func (w *world) setFault(f fault) {
	w.Helper()
	w.mustHaveFailed()
	if f == nil {
		w.mayFail(nil)
		return
	}
	failed := new(atomic.Bool)
	w.failed = failed
	w.mayFail(func(n int, call, name string) error {
		err := f(n, call, name)
		if err != nil {
			failed.Store(true)
		}
		return err
	})
}

// mayFail is setFault for faults that may not come to pass.
func (w *world) mayFail(f fault) {
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	w.fs.fault, w.faulty = f, f != nil
}

func (w *world) mustHaveFailed() {
	w.Helper()
	if w.failed != nil && !w.failed.Load() {
		w.Fatalf("no call failed: the test tests nothing")
	}
	w.failed = nil
}

// check compares the queue's own account; it holds at any time (I1, I6).
func (w *world) check() {
	w.Helper()
	s := w.q.Stats()
	if s.Cursor > s.Durable || s.Durable > s.Head || s.Head != w.head || s.Cursor != w.acked || s.Durable < w.out {
		w.Fatalf("cursor %d durable %d head %d, want head %d cursor %d out %d", s.Cursor, s.Durable, s.Head, w.head,
			w.acked, w.out)
	}
	if held := w.fs.held(); held > max(w.o.Limit, w.took)+w.o.Limit/8+slack {
		w.Fatalf("%d bytes on disk, limit %d", held, w.o.Limit)
	}
}

// drain takes everything out: all that was promised and not acknowledged (I2,
// I8).
func (w *world) drain() {
	w.Helper()
	for range 100 {
		durable := w.wait()
		for w.next() {
		}
		if w.out == w.head && durable {
			w.check()
			return
		}
		w.ack(len(w.ranges))
		w.idle()
	}
	w.Fatalf("%d came out, head is %d, %+v", w.out, w.head, w.q.Stats())
}
