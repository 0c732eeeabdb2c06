package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"wsrelay/receiver"
)

// childEnv names the store's directory that this binary, started again, commits
// to until it is killed; seqEnv the number that it continues with.
const (
	childEnv = "WSRELAY_TEST_JOURNAL_CHILD"
	seqEnv   = "WSRELAY_TEST_JOURNAL_SEQ"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Fprintln(os.Stderr, child(path))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// diskDB is a database in a file. Rows go to the file before a barrier or at it,
// in any order, so that a kill leaves any part of them.
type diskDB struct {
	mu   sync.Mutex
	f    *os.File
	mark string
	rows []diskRow
	mem  []diskRow
}

type diskRow struct {
	ID
	Segment string
	Sum     uint32
}

func openDiskDB(dir string) (*diskDB, error) {
	f, err := os.OpenFile(filepath.Join(dir, "rows"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	d := &diskDB{f: f, mark: filepath.Join(dir, "mark")}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r diskRow
		if json.Unmarshal(lines.Bytes(), &r) == nil { // else a kill cut it short
			d.rows = append(d.rows, r)
		}
	}
	_, err = f.WriteString("\n")
	return d, err
}

func (d *diskDB) write(keep bool) error {
	var text bytes.Buffer
	var rest []diskRow
	for _, r := range d.mem {
		if keep && rand.IntN(2) == 0 {
			rest = append(rest, r)
			continue
		}
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		text.Write(append(b, '\n'))
		d.rows = append(d.rows, r)
	}
	d.mem = rest
	_, err := d.f.Write(text.Bytes())
	return err
}

func (d *diskDB) Add(_ context.Context, segment string, batches []receiver.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range batches {
		b := &batches[i]
		if g := b.Gap; g != nil {
			d.mem = append(d.mem, diskRow{ID{b.SID, g.Seq, g.N}, segment, 0})
		}
		for k, line := range b.Lines {
			d.mem = append(d.mem, diskRow{ID{b.SID, b.Seq + uint64(k), 0}, segment, sumOf(line)})
		}
	}
	if rand.IntN(2) == 0 {
		return d.write(true)
	}
	return nil
}

func (d *diskDB) Barrier(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.write(false)
}

func (d *diskDB) each(f func(r *diskRow)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.rows {
		f(&d.rows[i])
	}
	for i := range d.mem {
		f(&d.mem[i])
	}
}

func (d *diskDB) Count(_ context.Context, segment string) (n uint64, err error) {
	d.each(func(r *diskRow) {
		if r.Segment == segment {
			n++
		}
	})
	return n, nil
}

func (d *diskDB) Each(_ context.Context, segment string, f func(ID)) error {
	d.each(func(r *diskRow) {
		if segment == "" || r.Segment == segment {
			f(r.ID)
		}
	})
	return nil
}

func (d *diskDB) Sums(_ context.Context, sid string, from, to uint64, f func(seq uint64, crc uint32)) error {
	d.each(func(r *diskRow) {
		if r.SID == sid && r.Gap == 0 && from <= r.Seq && r.Seq < to {
			f(r.Seq, r.Sum)
		}
	})
	return nil
}

func (d *diskDB) Mark() (string, error) {
	b, err := os.ReadFile(d.mark)
	return string(b), ignore(err, os.ErrNotExist)
}

func (d *diskDB) SetMark(m string) error {
	if err := os.WriteFile(d.mark+".new", []byte(m), 0o600); err != nil {
		return err
	}
	return os.Rename(d.mark+".new", d.mark)
}

func openWithDisk(path string) (*Journal, *diskDB, *os.File, error) {
	db, err := openDiskDB(path)
	if err != nil {
		return nil, nil, nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, nil, nil, err
	}
	j, err := Open(dir, path, db, Options{
		segment: 256 << 10, age: 20 * time.Millisecond, Limit: 4 << 20, Reserve: 1,
		recent: 1 << 10,
	})
	return j, db, dir, err
}

// childSIDs are the streams of the child: each has a committer of its own.
var childSIDs = []string{"k", "l", "m"}

func numbered(sid string, seq uint64) []byte {
	return fmt.Appendf(nil, "%s %d %s", sid, seq, strings.Repeat("x", int(seq%197)))
}

// childBatches are a batch of lines and, sometimes, a gap, from seq on.
func childBatches(sid string, seq uint64) []receiver.Batch {
	b := receiver.Batch{SID: sid, Host: "h", Seq: seq, At: time.Now()}
	for i := range 1 + rand.Uint64N(500) {
		b.Lines = append(b.Lines, numbered(sid, seq+i))
	}
	return []receiver.Batch{b}
}

// child commits and prints "SID NEXT" for each receipt.
func child(path string) error {
	j, _, _, err := openWithDisk(path)
	if err != nil {
		return err
	}
	seqs := strings.Split(os.Getenv(seqEnv), ",")
	fail := make(chan error)
	for i, sid := range childSIDs {
		seq, _ := strconv.ParseUint(seqs[i], 10, 64)
		go func() {
			for {
				batches := childBatches(sid, seq)
				if _, err := j.Commit(context.Background(), batches); errors.Is(err, ErrFull) {
					time.Sleep(time.Millisecond)
					continue
				} else if err != nil {
					fail <- err
					return
				}
				seq = batches[len(batches)-1].End()
				fmt.Println(sid, seq)
			}
		}()
	}
	return <-fail
}

// The process is killed at any moment, the sender sends again what has no
// receipt, and the database has each line once.
func TestKill_EachLineIsInTheDatabaseOnce(t *testing.T) {
	kills, _ := strconv.Atoi(os.Getenv("KILLS"))
	least := 12
	if testing.Short() {
		least = 3
	}
	kills = max(kills, least)
	dir := t.TempDir()
	next := map[string]uint64{}
	for _, sid := range childSIDs {
		next[sid] = 1
	}
	for range kills {
		runChild(t, dir, next)
	}
	j, db, d, err := openWithDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, sid := range childSIDs {
		if _, err = j.Commit(t.Context(), []receiver.Batch{{
			SID: sid, Seq: next[sid],
			Lines: [][]byte{numbered(sid, next[sid])},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	if err = j.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	stats := j.Stats()
	if err = errors.Join(j.Close(), db.f.Close()); err != nil {
		t.Fatal(err)
	}
	lines, lost, doubled, altered := 0, 0, 0, 0
	count := map[ID]int{}
	end := map[string]uint64{}
	for _, r := range db.rows {
		lines++
		if count[r.ID]++; count[r.ID] > 1 {
			doubled++
		}
		if r.Sum != sumOf(numbered(r.SID, r.Seq)) {
			altered++
		}
		end[r.SID] = max(end[r.SID], r.Seq)
	}
	for _, sid := range childSIDs {
		for seq := uint64(1); seq <= max(end[sid], next[sid]); seq++ {
			if count[ID{sid, seq, 0}] == 0 {
				lost++
			}
		}
	}
	t.Logf("%d kills, %d lines, %d lost, %d doubled, %d altered", kills, lines, lost, doubled, altered)
	if lost+doubled+altered != 0 || lines == 0 || stats.Restored != 0 || stats.Damaged != 0 {
		t.Errorf("%+v", stats)
	}
}

// runChild starts the child and kills it. What it prints are receipts, of which
// some are lost on their way.
func runChild(t *testing.T, dir string, next map[string]uint64) {
	var seqs []string
	for _, sid := range childSIDs {
		seqs = append(seqs, strconv.FormatUint(next[sid], 10))
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, seqEnv+"="+strings.Join(seqs, ","))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	killed := time.AfterFunc(time.Duration(20+rand.IntN(150))*time.Millisecond, func() { _ = cmd.Process.Kill() })
	defer killed.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		sid, n, _ := strings.Cut(lines.Text(), " ")
		if seq, err := strconv.ParseUint(n, 10, 64); err == nil && rand.IntN(3) > 0 {
			next[sid] = max(next[sid], seq)
		}
	}
	_ = cmd.Wait()
	if stderr.Len() > 0 {
		t.Fatalf("the child failed: %s", stderr.String())
	}
}
