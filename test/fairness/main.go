// Command fairness runs one honest sender, at 100 lines a second, beside one
// hog of each kind, and prints which share of its lines is stored within 5 s. Both
// have a token of their own; the receiver, a wsreceive of its own for each kind,
// writes a file.
//
//	go run ./test/fairness [-wsreceive PROGRAM] [-for 10s] [KIND...]
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

const (
	honestToken = "the-token-of-the-honest"
	hogToken    = "the-token-of-the-hog"
	honestSID   = "0123456789abcdef"
	inTime      = 5 * time.Second
)

// kinds are what a hog does until ctx ends.
var kinds = []struct {
	name string
	hog  func(ctx context.Context, url string)
}{
	{"nobody", func(context.Context, string) {}},
	{"announces 16 MiB in 100 sessions, and trickles", many(100, announce)},
	{"floods batches of 1 MiB in 20 sessions", many(20, flood(1<<20))},
	{"sends lines of 16 MiB in 20 sessions", many(20, flood(16<<20))},
	{"takes the other's stream", many(4, steal)},
	{"begins a stream for each line", many(20, begin)},
	{"sends damaged batches in 20 sessions", many(20, damage)},
	{"reads no receipt in 20 sessions", many(20, deaf)},
}

func main() {
	program := flag.String("wsreceive", "", "the receiver (default: built from this tree)")
	duration := flag.Duration("for", 10*time.Second, "how long each hog runs")
	flag.Parse()
	if err := run(*program, *duration, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "fairness:", err)
		os.Exit(1)
	}
}

func run(program string, duration time.Duration, only []string) error {
	dir, err := os.MkdirTemp("", "fairness")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing in it is needed
	if program == "" {
		program = filepath.Join(dir, "wsreceive")
		if out, err := exec.Command("go", "build", "-o", program, "./cmd/wsreceive").CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	tokens := filepath.Join(dir, "tokens")
	if err := os.WriteFile(tokens, []byte("honest "+honestToken+"\nhog "+hogToken+"\n"), 0o600); err != nil {
		return err
	}
	fmt.Println("| one hog | share stored within 5 s |\n|---|---|")
	for i, k := range kinds {
		if len(only) > 0 && !slices.ContainsFunc(only, func(o string) bool { return strings.Contains(k.name, o) }) {
			continue
		}
		store := filepath.Join(dir, fmt.Sprint("lines", i))
		r, url, err := start(program, "--listen", "127.0.0.1:0", "--to", "file:"+store, "--tokens", tokens,
			"--behind-proxy")
		if err != nil {
			return err
		}
		h := measure(url, duration, k.hog)
		_ = r.Process.Signal(syscall.SIGTERM)
		_ = r.Wait()
		share, err := h.share(store)
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %.0f %% |\n", k.name, 100*share)
		_ = os.Remove(store)
	}
	return nil
}

// start runs a receiver and gives its address.
func start(program string, args ...string) (*exec.Cmd, string, error) {
	cmd := exec.Command(program, args...)
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	var text bytes.Buffer
	buf := make([]byte, 4096)
	for listening := regexp.MustCompile(`listening url=(\S+)`); ; {
		n, err := said.Read(buf)
		text.Write(buf[:n])
		if m := listening.FindSubmatch(text.Bytes()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, said) }()
			return cmd, string(m[1]), nil
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s did not start: %s", program, text.String())
		}
	}
}

func measure(url string, duration time.Duration, hog func(context.Context, string)) *honest {
	ctx, stop := context.WithTimeout(context.Background(), duration+2*inTime)
	defer stop()
	var all sync.WaitGroup
	h := &honest{url: url, next: 1, acked: 1}
	all.Go(func() { h.run(ctx) })
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	started := false
	for began := time.Now(); time.Since(began) < duration; {
		<-tick.C
		h.add()
		if acked, _ := h.waiting(); !started && acked > 1 { // the honest sender was there first
			started = true
			all.Go(func() { hog(ctx, url) })
		}
	}
	sleep(ctx, inTime)
	stop()
	all.Wait()
	return h
}

// honest sends lines in order, one batch at a time, and again what has no receipt.
type honest struct {
	url string

	mu    sync.Mutex // guards the fields below
	made  []time.Time
	took  []time.Duration // of those that have a receipt
	next  uint64          // the number of the next line
	acked uint64
}

func (h *honest) add() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.made = append(h.made, time.Now())
	h.next++
}

func (h *honest) waiting() (from, to uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acked, h.next
}

func (h *honest) receipt(to uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ; h.acked < to && h.acked < h.next; h.acked++ {
		h.took = append(h.took, time.Since(h.made[h.acked-1]))
	}
}

// share is that of the lines which had a receipt in time, and are in the file.
func (h *honest) share(file string) (float64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	stored := map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 32<<20)
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte(`{"n":`)) {
			stored[lines.Text()] = true
		}
	}
	n := 0
	for i, d := range h.took {
		if d <= inTime && stored[line(uint64(i)+1)] {
			n++
		}
	}
	return float64(n) / float64(len(h.made)), lines.Err()
}

func line(seq uint64) string { return fmt.Sprintf(`{"n":%d}`, seq) }

func (h *honest) run(ctx context.Context) {
	for ctx.Err() == nil {
		from, _ := h.waiting()
		if p, err := open(ctx, h.url, honestToken, honestSID, from); err == nil {
			h.session(ctx, p)
			p.close()
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

func (h *honest) session(ctx context.Context, p *peer) {
	for ctx.Err() == nil {
		from, to := h.waiting()
		if from == to {
			sleep(ctx, 5*time.Millisecond)
			continue
		}
		var lines []string
		for seq := from; seq < to; seq++ {
			lines = append(lines, line(seq))
		}
		if p.send(from, strings.Join(lines, "\n")+"\n", len(lines), "") != nil {
			return
		}
		for acked := from; acked < to; {
			f, err := p.read()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *handshake.Ack:
				acked = f.Seq
				h.receipt(acked)
			case *handshake.Nak:
				return
			}
		}
	}
}

// peer is one end of a session.
type peer struct {
	conn *websocket.Conn
	b    uint64
	stop func() bool
}

func open(ctx context.Context, url, token, sid string, acked uint64) (*peer, error) {
	d := websocket.Dialer{Subprotocols: []string{handshake.Subprotocol}, WriteBufferSize: 64 << 10}
	conn, _, err := d.DialContext(ctx, url, http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		return nil, err
	}
	p := &peer{conn: conn, stop: context.AfterFunc(ctx, func() { conn.Close() })}
	hello := &handshake.Hello{V: handshake.Version, SID: sid, Host: "a-host", Acked: acked, Head: 1 << 40}
	if err = conn.WriteMessage(websocket.TextMessage, handshake.Encode(hello)); err == nil {
		_, err = p.read()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *peer) close() {
	p.stop()
	p.conn.Close()
}

func (p *peer) send(seq uint64, payload string, n int, crc string) error {
	p.b++
	d := handshake.Data{B: p.b, Seq: seq, N: n, At: time.Now().UnixMilli(), Enc: handshake.EncRaw, Raw: len(payload), C: crc}
	if crc == "" {
		d.C = handshake.CRC([]byte(payload))
	}
	return p.conn.WriteMessage(websocket.BinaryMessage, handshake.AppendData(nil, d, []byte(payload)))
}

func (p *peer) read() (handshake.Frame, error) {
	_, msg, err := p.conn.ReadMessage()
	if err != nil {
		return nil, err
	}
	return handshake.Decode(msg)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// many repeats what a hog does in n sessions at a time.
func many(n int, one func(ctx context.Context, url string)) func(context.Context, string) {
	return func(ctx context.Context, url string) {
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				for ctx.Err() == nil {
					one(ctx, url)
					sleep(ctx, 10*time.Millisecond)
				}
			})
		}
		all.Wait()
	}
}

func announce(ctx context.Context, url string) {
	p, err := open(ctx, url, hogToken, handshake.NewSID(), 1)
	if err != nil {
		return
	}
	defer p.close()
	w, err := p.conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return
	}
	d := handshake.Data{B: 1, Seq: 1, N: 1, At: 1, Enc: handshake.EncRaw, Raw: 16 << 20, C: "00000000"}
	_, err = w.Write(handshake.AppendData(nil, d, make([]byte, 64<<10)))
	for err == nil && ctx.Err() == nil {
		sleep(ctx, 100*time.Millisecond)
		_, err = w.Write(make([]byte, 64))
	}
}

// flood sends lines of size bytes as fast as receipts come.
func flood(size int) func(context.Context, string) {
	payload := strings.Repeat("x", size-1000) + "\n"
	return func(ctx context.Context, url string) {
		p, err := open(ctx, url, hogToken, handshake.NewSID(), 1)
		if err != nil {
			return
		}
		defer p.close()
		go func() {
			for {
				if _, err := p.read(); err != nil {
					return
				}
			}
		}()
		for seq := uint64(1); ctx.Err() == nil && p.send(seq, payload, 1, "") == nil; seq++ {
			if seq%256 == 0 { // a file of this bound is enough
				sleep(ctx, time.Second)
			}
		}
	}
}

func steal(ctx context.Context, url string) {
	p, err := open(ctx, url, hogToken, honestSID, 1)
	if err != nil {
		return
	}
	defer p.close()
	if p.send(1_000_000+rand.Uint64N(1_000_000), "not of the honest\n", 1, "") == nil {
		_, _ = p.read()
	}
}

func begin(ctx context.Context, url string) {
	p, err := open(ctx, url, hogToken, handshake.NewSID(), 1)
	if err != nil {
		return
	}
	defer p.close()
	if p.send(1, "the only one\n", 1, "") == nil {
		_, _ = p.read()
	}
}

func damage(ctx context.Context, url string) {
	p, err := open(ctx, url, hogToken, handshake.NewSID(), 1)
	if err != nil {
		return
	}
	defer p.close()
	payload := strings.Repeat("x", 256<<10) + "\n"
	for err == nil && ctx.Err() == nil {
		if err = p.send(1, payload, 1, "00000000"); err == nil {
			_, err = p.read()
		}
	}
}

func deaf(ctx context.Context, url string) {
	p, err := open(ctx, url, hogToken, handshake.NewSID(), 1)
	if err != nil {
		return
	}
	defer p.close()
	for seq := uint64(1); ctx.Err() == nil && p.send(seq, "a line\n", 1, "") == nil; seq++ {
	}
}
