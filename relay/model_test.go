package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"wsrelay/buffer"
	"wsrelay/handshake"
	"wsrelay/receiver"
)

// fate is what the network does to one connection.
type fate struct {
	Refused  bool          // there is none
	Delay    time.Duration // of every byte, either way
	Up, Down int           // bytes that get through; then it ends
	End      string        // cut: at both ends. half: at the relay's end only. silent: neither end learns it
	Twice    bool          // what the relay says reaches the receiver on a second connection, too
	Store    string        // what the store does to the next commit: "", fail, or lie: store it and fail
	Restart  string        // after the connection has ended: "", relay or receiver
}

func fates() *rapid.Generator[fate] {
	return rapid.Custom(func(t *rapid.T) fate {
		bytes := func(label string) int {
			return 1 << rapid.IntRange(4, 18).Draw(t, label) * rapid.IntRange(4, 8).Draw(t, "eighths") / 8
		}
		return fate{
			Refused: rapid.IntRange(0, 9).Draw(t, "refused") == 0,
			Delay:   time.Duration(rapid.IntRange(0, 400).Draw(t, "delay")) * time.Millisecond,
			Up:      bytes("up"), Down: bytes("down"),
			End:     rapid.SampledFrom([]string{"cut", "half", "silent"}).Draw(t, "end"),
			Twice:   rapid.IntRange(0, 3).Draw(t, "twice") == 0,
			Store:   rapid.SampledFrom([]string{"", "", "", "fail", "lie"}).Draw(t, "store"),
			Restart: rapid.SampledFrom([]string{"", "", "", "relay", "receiver"}).Draw(t, "restart"),
		}
	})
}

// Both ends as they are, any network between them, and any of them starting
// again: every line is stored once and in order, and nothing leaves the queue
// that is not stored.
func TestModel_EachLineOnceWhateverTheNetworkDoes(t *testing.T) {
	again := 0
	rapid.Check(t, func(rt *rapid.T) {
		history := rapid.SliceOfN(fates(), 1, 12).Draw(rt, "history")
		synctest.Test(t, func(t *testing.T) {
			m := &model{t: t, history: history, store: &modelStore{}, restarts: make(chan string, len(history))}
			for _, wrong := range m.live() {
				rt.Error(wrong)
			}
			again += m.store.dups
		})
	})
	if again == 0 && !testing.Short() { // with -short the histories are few
		t.Error("no line was ever sent again: nothing was tested")
	}
}

// model is both ends and the network.
type model struct {
	t     *testing.T
	store *modelStore
	relay func() // ends the relay

	mu       sync.Mutex // guards the fields below
	history  []fate
	receiver *pipes
	shut     func() // ends the receiver
	conns    []net.Conn
	carried  sync.WaitGroup

	restarts chan string
}

// live runs until the history is over and everything is delivered, and tells
// what was wrong.
func (m *model) live() []string {
	const lines = 300
	text := func(seq uint64) string { return fmt.Sprintf("line %d %0*d", seq, seq*seq%900, 0) }
	q := openQueue(m.t)
	m.startReceiver()
	m.startRelay(q)
	for range lines / 10 {
		appendLine(m.t, q, 10, text)
		time.Sleep(2 * time.Second) // of the bubble's
		select {
		case end := <-m.restarts:
			if end == "relay" {
				m.relay()
				m.startRelay(q)
			} else {
				m.cut()
				m.shut()
				m.startReceiver()
			}
		default:
		}
	}
	waitAcked(m.t, q, lines+1)
	m.relay()
	m.cut()
	m.shut()
	m.carried.Wait()
	return m.store.wrong(lines+1, text)
}

func (m *model) startRelay(q *buffer.Queue) {
	r := New(checkedQueue{q, m.store}, Options{URLs: []string{"ws://receiver"}, Boot: handshake.NewNonce()})
	r.net = m.dial
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	m.relay = func() {
		cancel()
		if err := <-ended; err != nil {
			m.t.Errorf("Run: %v", err)
		}
	}
}

func (m *model) startReceiver() {
	r := receiver.New(m.store, receiver.Options{})
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute, ErrorLog: quiet()}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.receiver, m.shut = l, func() {
		srv.Close()
		r.Shutdown()
		<-served
	}
}

// cut ends all connections.
func (m *model) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		c.Close()
	}
	m.conns = nil
}

// dial makes the next connection of the history; after its end all is well.
func (m *model) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	m.mu.Lock()
	f := fate{Up: 1 << 40, Down: 1 << 40}
	if len(m.history) > 0 {
		f, m.history = m.history[0], m.history[1:]
	}
	l := m.receiver
	m.mu.Unlock()
	m.store.fate(f.Store)
	if f.Refused {
		return nil, errors.New("refused by fate")
	}
	there, err := l.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	relay, here := net.Pipe()
	up := io.Writer(there)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns = append(m.conns, here, there)
	if f.Twice {
		twin, err := l.dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		m.conns = append(m.conns, twin)
		m.carried.Go(func() { _, _ = io.Copy(io.Discard, twin) })
		up = both{there, twin}
	}
	m.carry(&link{fate: f, here: here, there: there}, up)
	return relay, nil
}

// both writes to two receivers, of which one may be gone.
type both [2]io.Writer

func (b both) Write(p []byte) (int, error) {
	_, _ = b[1].Write(p)
	return b[0].Write(p)
}

// link is a connection in the hands of fate.
type link struct {
	fate
	here, there net.Conn // towards the relay, towards the receiver
	over        atomic.Bool
}

// carry moves bytes both ways until that is over, and then does what the fate
// says.
func (m *model) carry(l *link, up io.Writer) {
	var ways sync.WaitGroup
	ways.Go(func() { l.move(up, l.here, l.Up) })
	ways.Go(func() { l.move(l.here, l.there, l.Down) })
	m.carried.Go(func() {
		ways.Wait()
		l.here.Close()
		l.there.Close()
		if l.Restart != "" {
			m.restarts <- l.Restart
		}
	})
}

// move delivers n bytes late. What comes then is swallowed.
func (l *link) move(to io.Writer, from net.Conn, n int) {
	type packet struct {
		due   time.Time
		bytes []byte
	}
	packets := make(chan packet, 1000)
	var delivered sync.WaitGroup
	delivered.Go(func() {
		for p := range packets {
			time.Sleep(time.Until(p.due))
			_, _ = to.Write(p.bytes) // it may be gone
		}
	})
	buf := make([]byte, 32<<10)
	for {
		k, err := from.Read(buf)
		if k = min(k, n); k > 0 && !l.over.Load() {
			packets <- packet{time.Now().Add(l.Delay), append([]byte(nil), buf[:k]...)}
			n -= k
		}
		if err == nil && n > 0 {
			continue
		}
		if n == 0 {
			l.over.Store(true)
		}
		close(packets)
		delivered.Wait()
		l.end(n == 0)
		if err == nil {
			_, _ = io.Copy(io.Discard, from)
		}
		return
	}
}

// end tells those that are to know that the connection is over: because fate
// cut it, or because one of them has closed it.
func (l *link) end(byFate bool) {
	switch {
	case !byFate && !l.over.Load(), l.End == "cut":
		l.here.Close()
		l.there.Close()
	case l.End == "half":
		l.here.Close()
	}
}

// modelStore is the receivers' store. It sees at once what is out of order.
type modelStore struct {
	mu     sync.Mutex
	lines  []string
	dups   int
	faults []string
	fault  string // of the next commit
}

func (s *modelStore) fate(fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *modelStore) Begin(*handshake.Hello) {}

func (s *modelStore) Describe() (string, string) { return "model", handshake.ExactlyOnce }
func (s *modelStore) Close() error               { return nil }

func (s *modelStore) Commit(_ context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := s.fault
	s.fault = ""
	if fault == "fail" {
		return nil, errors.New("the store fails")
	}
	results := make([]receiver.Result, len(batches))
	for k, b := range batches {
		if b.Gap != nil {
			s.faults = append(s.faults, fmt.Sprintf("a gap: %+v", b.Gap))
		}
		for i, line := range b.Lines {
			switch at := b.Seq + uint64(i) - 1; {
			case at > uint64(len(s.lines)):
				s.faults = append(s.faults, fmt.Sprintf("line %d comes after %d", at+1, len(s.lines)))
			case at == uint64(len(s.lines)):
				s.lines = append(s.lines, string(line))
				results[k].New++
			case s.lines[at] != string(line):
				return nil, &receiver.DivergedError{SID: b.SID, Seq: at + 1}
			default:
				s.dups++
				results[k].Dup++
			}
		}
	}
	if fault == "lie" {
		return nil, errors.New("the store does not say that it has stored")
	}
	return results, nil
}

// wrong compares what is stored with lines 1 to end-1.
func (s *modelStore) wrong(end uint64, text func(uint64) string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if got, want := len(s.lines), int(end-1); got != want {
		return append(s.faults, fmt.Sprintf("%d lines are stored, want %d", got, want))
	}
	for seq := uint64(1); seq < end; seq++ {
		if got, want := s.lines[seq-1], text(seq); got != want {
			return append(s.faults, fmt.Sprintf("line %d is %.60q, want %.60q", seq, got, want))
		}
	}
	return s.faults
}

// checkedQueue takes no receipt for what is not stored.
type checkedQueue struct {
	*buffer.Queue
	store *modelStore
}

func (q checkedQueue) Ack(to uint64, r buffer.Receipt) error {
	q.store.mu.Lock()
	if to > uint64(len(q.store.lines))+1 {
		q.store.faults = append(q.store.faults, fmt.Sprintf("a receipt for %d, and only %d lines are stored", to,
			len(q.store.lines)))
	}
	q.store.mu.Unlock()
	return q.Queue.Ack(to, r)
}
