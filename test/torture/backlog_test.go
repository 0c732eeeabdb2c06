package torture

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wsrelay/buffer"
	"wsrelay/internal/codec"
	"wsrelay/test/harness"
)

// TestBacklog_OpensAtOnce opens a queue of 100 GB, of which only the last
// segment is real and the others are holes behind valid headers, and tells how
// long that takes: what counts is that Open reads no more than it must.
func TestBacklog_OpensAtOnce(t *testing.T) {
	const segments, size = 1600, 64 << 20 // the last but one is empty, and goes when it is seen
	dir := filepath.Join(t.TempDir(), "queue")
	fill(t, dir, 1)
	first := filepath.Join(dir, "0000000000000001.seg")
	header := make([]byte, 2048)
	f, err := os.Open(first)
	harness.Must(t, err)
	_, err = f.ReadAt(header, 0)
	harness.Must(t, err)
	harness.Must(t, f.Close())
	sparse := []string{first}
	for id := uint64(2); id < segments; id++ {
		name := filepath.Join(dir, fmt.Sprintf("%016x.seg", id))
		harness.Must(t, os.WriteFile(name, headerOf(header, id), 0o600))
		sparse = append(sparse, name)
	}
	fill(t, dir, 60<<20)
	sparse = sparse[:len(sparse)-1] // the empty one
	for _, name := range sparse {
		harness.Must(t, os.Truncate(name, size))
	}
	var best time.Duration
	for range 5 {
		began := time.Now()
		q, _, err := buffer.Open(t.Context(), dir, buffer.Options{})
		took := time.Since(began)
		harness.Must(t, err)
		if best == 0 || took < best {
			best = took
		}
		b, err := q.Next(t.Context())
		harness.Must(t, err)
		if got := b.Range(); got != (buffer.Range{First: 1, End: 2}) {
			t.Errorf("the first block has %v, want the first line", got)
		}
		if held := q.Stats().DiskBytes; held < (segments-2)*size {
			t.Errorf("the queue holds %d bytes, want %d", held, (segments-2)*size)
		}
		harness.Must(t, q.Close(t.Context()))
	}
	t.Logf("a backlog of %d segments, %d GB, opens in %v (best of 5, headers cached)", segments,
		segments*size/1_000_000_000, best.Round(100*time.Microsecond))
}

// headerOf is a segment's header, of which doc.go of buffer has the picture,
// with another id and base.
func headerOf(header []byte, id uint64) []byte {
	b := append([]byte(nil), header...)
	binary.LittleEndian.PutUint64(b[32:], id)
	binary.LittleEndian.PutUint64(b[40:], id*100_000)
	binary.LittleEndian.PutUint32(b[2044:], crc32.Checksum(b[:2044], crc32.MakeTable(crc32.Castagnoli)))
	return append(b, b...)
}

// fill appends at least size bytes to the queue.
func fill(t *testing.T, dir string, size int) {
	t.Helper()
	q, _, err := buffer.Open(t.Context(), dir, buffer.Options{Codec: new(codec.Raw)})
	harness.Must(t, err)
	for n, done := uint64(0), 0; done < size; n++ {
		line := harness.AppendLine(nil, n)
		_, err := q.Append(t.Context(), line, 1, buffer.Origin{})
		harness.Must(t, err)
		done += len(line)
	}
	harness.Must(t, q.Close(t.Context()))
}

// TestBacklog_DrainsInLittleMemory lets a real backlog gather and drain, and
// tells the most memory that keeper and worker ever had.
func TestBacklog_DrainsInLittleMemory(t *testing.T) {
	size := int64(96 << 20)
	if harness.Long() {
		size = 10_000_000_000
	}
	g := newRig(t, filepath.Join(t.TempDir(), "queue"))
	options := []string{"--queue-limit", "32GiB", "--compress", "none", "--drain", "1h"}
	began := time.Now()
	p := g.start(t, nil, options...)
	p.away.Store(true)
	peak := p.watchMemory()
	f := harness.Feed(p.W, 0, nil)
	for f.Sent.Load() < size {
		time.Sleep(10 * time.Millisecond)
	}
	p.close() // nothing more is stored
	f.Stop()
	for p.Mark() < f.Sent.Load() {
		time.Sleep(10 * time.Millisecond)
	}
	p.kill()
	t.Logf("filled %d MB in %v: %s", f.Sent.Load()/1_000_000, time.Since(began).Round(time.Second), peak())

	began = time.Now()
	p = g.start(t, nil, options...)
	peak = p.watchMemory()
	_ = p.W.Close()
	if err := p.wait(time.Hour); err != nil {
		t.Fatalf("wsrelay: %v\n%s", err, g.logTail())
	}
	t.Logf("drained in %v: %s", time.Since(began).Round(time.Second), peak())
	g.lives = append(g.lives, life{end: f.End(), promised: f.End()})
	t.Log(g.check(t))
}

// watchMemory samples what keeper and worker have, until they end; the func
// waits for that.
func (p *relay) watchMemory() (peak func() string) {
	var most [2]string
	var high [2]int
	var wg sync.WaitGroup
	wg.Go(func() {
		for harness.Alive(p.Cmd.Process.Pid) {
			for k, pid := range []int{p.Cmd.Process.Pid, p.Worker()} {
				if kib, text := resident(pid); kib > high[k] {
					high[k], most[k] = kib, text
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	return func() string {
		wg.Wait()
		return fmt.Sprintf("peak RSS keeper %s, worker %s", most[0], most[1])
	}
}

// resident is the memory of a process in KiB, and of what kind it is.
func resident(pid int) (kib int, text string) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // gone: nothing
	kinds := map[string]int{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		n := 0
		if _, err := fmt.Sscan(value, &n); err == nil {
			kinds[name] = n
		}
	}
	return kinds["VmRSS"], fmt.Sprintf("%.1f MiB (anonymous %.1f, of files %.1f)",
		float64(kinds["VmRSS"])/1024, float64(kinds["RssAnon"])/1024, float64(kinds["RssFile"])/1024)
}
