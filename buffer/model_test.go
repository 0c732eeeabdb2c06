package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestQueue_KeepsItsInvariants drives a queue on the strict file system through
// random histories of use, faults, kills and power cuts, beside a model that
// knows every line.
func TestQueue_KeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func() {
			m := newModel(rt)
			defer m.abandon()
			rt.Repeat(map[string]func(*rapid.T){
				"append":   m.append,
				"wait":     m.wait,
				"deliver":  m.deliver,
				"ack":      m.ack,
				"rewind":   m.rewind,
				"idle":     func(*rapid.T) { time.Sleep(2 * time.Second) },
				"restart":  m.restart,
				"kill":     func(*rapid.T) { m.crash((*strictFS).kill) },
				"powercut": func(*rapid.T) { m.crash((*strictFS).powerCut) },
				"faults":   m.faults,
				"":         m.check,
			})
			m.setFault(nil)
			m.restart(rt)
			m.drain()
		})
	})
}

// inBubble runs f with synthetic time. Rapid stops a failed case by a panic,
// which has to reach rapid's own goroutine.
func inBubble(t *testing.T, f func()) {
	var stopped any
	synctest.Test(t, func(*testing.T) {
		defer func() { stopped = recover() }()
		f()
	})
	if stopped != nil {
		panic(stopped)
	}
}

type model struct {
	t  *rapid.T
	fs *strictFS
	q  *Queue

	lines    map[uint64]string // what each number below head must hold
	gone     map[uint64]bool   // numbers that came out as a gap
	ever     map[string]string // what came out under each UID, in any life
	head     uint64
	promised uint64 // WaitDurable has said so
	acked    uint64
	out      uint64 // next number to come out
	ranges   []Range
	made     int
	faulty   bool // calls may fail
}

const modelLimit = 1 << 20 // segments of 128 KiB

func newModel(t *rapid.T) *model {
	m := &model{
		t: t, fs: newStrictFS(rapid.Uint64().Draw(t, "seed")),
		lines: map[uint64]string{}, gone: map[uint64]bool{}, ever: map[string]string{},
		head: 1, promised: 1, acked: 1, out: 1,
	}
	m.open()
	return m
}

func (m *model) open() *Recovery {
	q, rec, err := open(m.fs, Options{Limit: modelLimit, Log: nil})
	if err != nil {
		m.t.Fatalf("open: %v", err)
	}
	q.unlock = nopCloser{}
	m.q = q
	return rec
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// abandon lets go of a queue whose process is dead.
func (m *model) abandon() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = m.q.Close(ctx)
}

func (m *model) append(t *rapid.T) {
	if m.head-m.acked > 2000 {
		return // within the limit
	}
	n := rapid.IntRange(1, 40).Draw(t, "n")
	size := rapid.SampledFrom([]int{1, 40, 250, 250, 3000}).Draw(t, "size")
	if n*size*2 > modelLimit/16 {
		n = 5
	}
	var lines []byte
	for k := range n {
		m.made++
		line := fmt.Sprintf("line %d %s\n", m.made, noise(m.made, size))
		m.lines[m.head+uint64(k)] = line
		lines = append(lines, line...)
	}
	r, err := m.q.Append(context.Background(), lines, n, Origin{Intake: 7, End: int64(m.made)})
	if err != nil || r != (Range{m.head, m.head + uint64(n)}) {
		t.Fatalf("append at %d: %v, %v", m.head, r, err)
	}
	m.head = r.End
}

// noise does not compress away.
func noise(seed, n int) string {
	rnd := rand.New(rand.NewPCG(uint64(seed), 2))
	var b strings.Builder
	for range n {
		b.WriteByte("0123456789abcdef"[rnd.IntN(16)])
	}
	return b.String()
}

func (m *model) wait(*rapid.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if m.q.WaitDurable(ctx, m.head) == nil {
		m.promised = m.head
	}
}

func (m *model) deliver(t *rapid.T) {
	for range rapid.IntRange(1, 10).Draw(t, "blocks") {
		if !m.next() {
			return
		}
	}
}

// next takes one block out and compares it.
func (m *model) next() bool {
	b, err := m.q.TryNext()
	if errors.Is(err, errInjected) {
		return false
	}
	if err != nil {
		m.t.Fatalf("next: %v", err)
	}
	if b == nil {
		return false
	}
	r := b.Range()
	if r.First != m.out || r.End > m.head {
		m.t.Fatalf("got %v, want what begins at %d, head %d", r, m.out, m.head)
	}
	if b.Gap() != nil {
		m.gap(b)
	} else {
		m.data(b)
	}
	m.out = r.End
	m.ranges = append(m.ranges, r)
	return true
}

func (m *model) gap(b *Block) {
	for seq := b.Range().First; seq < b.Range().End; seq++ {
		if seq < m.promised || m.ever[uid(b, seq)] != "" && !m.gone[seq] {
			m.t.Fatalf("gap %v %+v at %d, which was promised (%d)", b.Range(), b.Gap(), seq, m.promised)
		}
		m.gone[seq] = true
	}
}

func (m *model) data(b *Block) {
	lines, err := b.Lines(nil)
	if err != nil {
		m.t.Fatal(err)
	}
	seq := b.Range().First
	for line := range bytes.Lines(lines) {
		want := m.lines[seq]
		if string(line) != want {
			m.t.Fatalf("seq %d: got %.40q, want %.40q", seq, line, want)
		}
		if m.gone[seq] {
			m.t.Fatalf("seq %d came out as a gap before", seq)
		}
		if was := m.ever[uid(b, seq)]; was != "" && was != want {
			m.t.Fatalf("seq %d: uid used for %.40q and %.40q", seq, was, want)
		}
		m.ever[uid(b, seq)] = want
		seq++
	}
	if seq != b.Range().End {
		m.t.Fatalf("%v has lines up to %d", b.Range(), seq)
	}
}

func uid(b *Block, seq uint64) string { return fmt.Sprint(b.SID(), seq) }

func (m *model) ack(t *rapid.T) {
	if len(m.ranges) == 0 {
		return
	}
	n := rapid.IntRange(1, len(m.ranges)).Draw(t, "acks")
	to := m.ranges[n-1].End
	if err := m.q.Ack(to, Receipt{Seq: to, UID: "u"}); err != nil {
		t.Fatal(err)
	}
	m.acked, m.ranges = to, m.ranges[n:]
	if err := m.q.Ack(m.out+1, Receipt{}); !errors.Is(err, ErrAck) {
		t.Fatalf("an ack of what was not given out: %v", err)
	}
}

func (m *model) rewind(t *rapid.T) {
	if len(m.ranges) == 0 {
		return
	}
	k := rapid.IntRange(0, len(m.ranges)-1).Draw(t, "to")
	if err := m.q.Rewind(m.ranges[k].End - 1); err != nil {
		t.Fatal(err)
	}
	m.out, m.ranges = m.ranges[k].First, m.ranges[:k]
}

func (m *model) restart(t *rapid.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.q.Close(ctx); err != nil {
		if !m.faulty {
			t.Fatalf("close: %v", err)
		}
		m.crash((*strictFS).kill)
		return
	}
	m.promised = m.head
	m.setFault(nil)
	m.open()
	s := m.q.Stats()
	if s.Head != m.head || s.Cursor != m.acked {
		t.Fatalf("after a restart: head %d cursor %d, want %d %d", s.Head, s.Cursor, m.head, m.acked)
	}
	m.out, m.ranges = m.acked, nil
}

func (m *model) crash(how func(*strictFS) *strictFS) {
	next := how(m.fs)
	m.abandon()
	m.fs, m.faulty = next, false
	m.open()
	s := m.q.Stats()
	if s.Head < m.promised || s.Head > m.head || s.Cursor > m.acked {
		m.t.Fatalf("after a crash: head %d, promised %d, was %d; cursor %d, acked %d", s.Head, m.promised, m.head, s.Cursor, m.acked)
	}
	for seq := s.Head; seq < m.head; seq++ {
		delete(m.lines, seq)
	}
	m.head, m.acked = s.Head, s.Cursor
	m.out, m.ranges = s.Cursor, nil
}

var errInjected = fmt.Errorf("injected: %w", unix.EIO)

// faults lets one in some calls fail for a while, or none.
func (m *model) faults(t *rapid.T) {
	one := rapid.SampledFrom([]int{0, 0, 3, 10}).Draw(t, "one in")
	err := rapid.SampledFrom([]error{errInjected, unix.ENOSPC, errShort}).Draw(t, "error")
	if one == 0 {
		m.setFault(nil)
		return
	}
	rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "faults"), 3))
	m.setFault(func(_ int, call, _ string) error {
		if rnd.IntN(one) > 0 || call == "list" || call == "open" {
			return nil
		}
		if errors.Is(err, errShort) && call != "write" || errors.Is(err, unix.ENOSPC) && call == "read" {
			return nil
		}
		return err
	})
}

func (m *model) setFault(f func(n int, call, name string) error) {
	m.fs.mu.Lock()
	defer m.fs.mu.Unlock()
	m.fs.fault, m.faulty = f, f != nil
}

func (m *model) check(t *rapid.T) {
	s := m.q.Stats()
	if s.Cursor > s.Durable || s.Durable > s.Head || s.Head != m.head || s.Cursor != m.acked {
		t.Fatalf("cursor %d durable %d head %d, want head %d cursor %d", s.Cursor, s.Durable, s.Head, m.head, m.acked)
	}
	if s.DiskBytes > modelLimit+modelLimit/8 {
		t.Fatalf("%d bytes on disk, limit %d", s.DiskBytes, modelLimit)
	}
}

// drain takes everything out: all that was promised and not acknowledged.
func (m *model) drain() {
	m.wait(nil)
	for m.next() {
	}
	if m.out != m.head {
		m.t.Fatalf("%d came out, head is %d", m.out, m.head)
	}
}
