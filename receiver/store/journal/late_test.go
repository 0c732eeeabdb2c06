package journal

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"wsrelay/receiver"
)

const flushInterval = 5 * time.Second

// lateDB is a database on another host, which has a row on disk some time after it
// was added. When it is killed it forgets any part of what is younger.
type lateDB struct {
	mu     sync.Mutex
	rnd    *rand.Rand
	rows   []lateRow
	starts int
	seen   map[string]lateSeen
	mark   string
}

type lateRow struct {
	fakeRow
	at time.Time
}

// lateSeen is in which life of the database a segment was counted, or begun, and
// when something was added last.
type lateSeen struct {
	starts int
	at     time.Time
}

func (d *lateDB) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.starts++
	d.rows = slices.DeleteFunc(d.rows, func(r lateRow) bool { return time.Since(r.at) < flushInterval && d.rnd.IntN(2) == 0 })
}

func (d *lateDB) Add(_ context.Context, segment string, batches []receiver.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen, ok := d.seen[segment]
	if !ok {
		seen.starts = d.starts
	}
	seen.at = time.Now()
	d.seen[segment] = seen
	for i := range batches {
		b := &batches[i]
		for k, line := range b.Lines {
			if d.rnd.IntN(2000) == 0 {
				return errInjected
			}
			d.rows = append(d.rows, lateRow{
				fakeRow{ID{b.SID, b.Seq + uint64(k), 0}, segment, string(line)},
				time.Now(),
			})
		}
	}
	return nil
}

func (d *lateDB) Barrier(context.Context) error { return nil }

func (d *lateDB) count(segment string) (n uint64) {
	for i := range d.rows {
		if d.rows[i].segment == segment {
			n++
		}
	}
	return n
}

func (d *lateDB) Count(_ context.Context, segment string) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[segment] = lateSeen{d.starts, time.Now()}
	return d.count(segment), nil
}

func (d *lateDB) Final(_ context.Context, segment string, rows uint64) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.seen[segment]
	switch wait := time.Until(seen.at.Add(10 * flushInterval)); {
	case seen.starts != d.starts:
		return 0, ErrForgot
	case wait > 0:
		return wait, nil
	case d.count(segment) != rows:
		return 0, ErrForgot
	}
	return 0, nil
}

func (d *lateDB) Each(_ context.Context, segment string, f func(ID)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.rows {
		if r := &d.rows[i]; segment == "" || r.segment == segment {
			f(r.ID)
		}
	}
	return nil
}

func (d *lateDB) Sums(_ context.Context, sid string, seq, end uint64, f func(uint64, uint32)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.rows {
		if r := &d.rows[i]; r.SID == sid && seq <= r.Seq && r.Seq < end {
			f(r.Seq, sumOf([]byte(r.text)))
		}
	}
	return nil
}

func (d *lateDB) Mark() (string, error) { return d.mark, nil }

func (d *lateDB) SetMark(m string) error {
	d.mark = m
	return nil
}

// A database that syncs when it likes is killed at any time, and the journal is
// opened again at any time: each line is there once, and the segments go.
func TestAsyncDatabase_EachLineIsThereOnceWhateverTheDatabaseForgets(t *testing.T) {
	seeds := 8
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			inBubble(t, func() { lateHistory(t, seed) })
		})
	}
}

func lateHistory(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	db := &lateDB{rnd: rand.New(rand.NewPCG(seed, 2)), seen: map[string]lateSeen{}}
	path := t.TempDir()
	open := func() (*Journal, *os.File) {
		dir, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		j, err := Open(dir, path, db, Options{
			segment: 64 << 10, step: 8 << 10, Limit: 64 << 20, Reserve: 1,
			age: 20 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		return j, dir
	}
	j, dir := open()
	seq, longest := uint64(1), 0
	for range 60 {
		b := receiver.Batch{SID: "s", Host: "h", Seq: seq, At: time.Now()}
		for range 1 + rnd.IntN(300) {
			b.Lines = append(b.Lines, numbered("s", b.End()))
		}
		if _, err := j.Commit(context.Background(), []receiver.Batch{b}); err != nil {
			t.Fatal(err)
		}
		seq = b.End()
		j.mu.Lock()
		longest = max(longest, len(j.segs))
		j.mu.Unlock()
		time.Sleep(time.Duration(rnd.Int64N(int64(20 * time.Second))))
		if rnd.IntN(3) == 0 {
			db.kill()
		}
		if rnd.IntN(8) == 0 {
			if err := errors.Join(j.Close(), dir.Close()); err != nil {
				t.Fatal(err)
			}
			j, dir = open()
		}
	}
	for tries := 0; ; tries++ {
		if err := j.Wait(context.Background()); err == nil {
			break
		} else if tries == 100 {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // it failed, and tries again
	}
	db.kill() // what the journal has no more is on disk
	if err := errors.Join(j.Close(), dir.Close()); err != nil {
		t.Fatal(err)
	}
	there := map[uint64]int{}
	for i := range db.rows {
		r := &db.rows[i]
		if there[r.Seq]++; there[r.Seq] > 1 || r.text != string(numbered("s", r.Seq)) {
			t.Errorf("%+v is there %d times", r.ID, there[r.Seq])
		}
	}
	for n := uint64(1); n < seq; n++ {
		if there[n] == 0 {
			t.Fatalf("line %d is lost", n)
		}
	}
	if longest < 2 {
		t.Error("later segments were not added while an older one waited")
	}
}
