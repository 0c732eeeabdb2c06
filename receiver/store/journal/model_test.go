package journal

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"wsrelay/receiver"
)

// TestJournal_KeepsEachLineOnce drives a journal through random histories of
// commits, faults, kills and power cuts, over a database that forgets.
func TestJournal_KeepsEachLineOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		root := scratch(t)
		defer os.RemoveAll(root)
		inBubble(t, func() {
			m := model{newWorld(rt, root, rapid.Uint64().Draw(rt, "seed"))}
			defer m.abandon()
			m.mustStart()
			rt.Repeat(m.actions())
			m.finish()
			m.crash(true, 0)
			m.finish()
			if n := m.j.Stats().Restored; n > 0 {
				m.Fatalf("a power cut counts as a restore")
			}
		})
	})
}

// scratch makes a directory for a cutFS, in memory if possible: what of it is on
// the disk the cutFS knows.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "journal")
	if err != nil {
		dir, err = os.MkdirTemp("", "journal")
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

type model struct{ *world }

func (m model) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"commit":         m.commitSome,
		"commit more":    m.commitSome,
		"commit again":   m.commitAgain,
		"diverge":        m.diverge,
		"owner":          m.owner,
		"wait":           func(*rapid.T) { m.wait() },
		"let it work":    func(*rapid.T) { time.Sleep(10 * time.Millisecond); synctest.Wait() },
		"an hour":        func(*rapid.T) { time.Sleep(time.Hour); synctest.Wait() },
		"restart":        m.restart,
		"kill":           func(t *rapid.T) { m.crash(false, again(t)) },
		"power cut":      func(t *rapid.T) { m.crash(true, again(t)) },
		"dying":          func(t *rapid.T) { m.dying(t, false) },
		"losing power":   func(t *rapid.T) { m.dying(t, true) },
		"failed syncs":   m.failedSyncs,
		"file faults":    m.fileFaults,
		"database fault": m.databaseFaults,
		"no faults":      func(*rapid.T) { m.setFault(nil, nil) },
	}
}

func again(t *rapid.T) int { return max(0, rapid.IntRange(-15, 25).Draw(t, "again")) }

func sid(t *rapid.T) string { return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "sid") }

func (m model) commitSome(t *rapid.T) {
	sid := sid(t)
	seq := max(1, m.next[sid])
	var batches []receiver.Batch
	for range rapid.IntRange(1, 4).Draw(t, "batches") {
		seq += uint64(max(0, rapid.IntRange(-8, 3).Draw(t, "hole")))
		n := uint64(rapid.IntRange(1, 12).Draw(t, "records"))
		if rapid.IntRange(0, 5).Draw(t, "gap") == 0 {
			batches = append(batches, m.gap(sid, seq, n))
		} else {
			batches = append(batches, m.batch(sid, seq, n, rapid.SampledFrom([]int{0, 20, 200, 2000}).Draw(t, "size")))
		}
		seq += n
	}
	m.next[sid] = seq
	m.commit(batches...)
}

// commitAgain sends a part of a stream again, as after a broken connection, with
// other borders.
func (m model) commitAgain(t *rapid.T) {
	sid := sid(t)
	seq := uint64(rapid.IntRange(1, int(max(1, m.next[sid]))).Draw(t, "from"))
	n := uint64(rapid.IntRange(1, 40).Draw(t, "lines"))
	m.commit(m.batch(sid, seq, n, 10))
	m.next[sid] = max(m.next[sid], seq+n)
}

// diverge commits another line under a number that has a receipt, behind new ones
// or before.
func (m model) diverge(t *rapid.T) {
	sid := sid(t)
	var seqs []uint64
	for seq := uint64(1); seq < m.next[sid]; seq++ {
		if m.acked[ID{sid, seq, 0}] {
			seqs = append(seqs, seq)
		}
	}
	if len(seqs) == 0 {
		return
	}
	seq := rapid.SampledFrom(seqs).Draw(t, "seq")
	b := receiver.Batch{SID: sid, Seq: seq, Lines: [][]byte{[]byte("another line")}}
	more := receiver.Batch{SID: sid, Seq: m.next[sid] + 1000, Lines: [][]byte{[]byte("a line that must not be stored")}}
	_, err := m.j.Commit(context.Background(), []receiver.Batch{b, more})
	var diverged *receiver.DivergedError
	if !errors.As(err, &diverged) {
		if err != nil && m.faulty {
			return
		}
		m.Fatalf("another line under %d: %v", seq, err)
	}
	if diverged.Seq != seq {
		m.Fatalf("diverged at %d, want %d", diverged.Seq, seq)
	}
}

func (m model) owner(t *rapid.T) {
	sid := sid(t)
	from, _ := m.j.Owner(context.Background(), sid)
	to := rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "owner")
	got, err := m.j.SetOwner(context.Background(), sid, from, to)
	switch {
	case err == nil && got == to:
		m.owners[sid] = to
	case err == nil || !m.faulty:
		m.Fatalf("owner is %q, want %q: %v", got, to, err)
	default:
		delete(m.owners, sid) // either
	}
}

func (m model) wait() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := m.j.Wait(ctx)
	if err != nil && !m.faulty {
		time.Sleep(time.Minute) // a fault was there a moment ago
		err = m.j.Wait(ctx)
	}
	return err == nil
}

func (m model) restart(*rapid.T) {
	m.setFault(nil, nil)
	if err := m.j.Close(); err != nil {
		m.Fatalf("close: %v", err)
	}
	_ = m.dir.Close()
	m.db = m.db.crash()
	m.fs = m.fs.kill()
	m.j = nil
	m.mustStart()
}

// dying ends the process, or the machine, at one of the next file calls.
func (m model) dying(t *rapid.T, cut bool) {
	m.faulty = true
	m.fs.mu.Lock()
	m.fs.crashAt = m.fs.calls + rapid.IntRange(1, 20).Draw(t, "calls")
	m.fs.mu.Unlock()
	m.commitSome(t)
	m.commitSome(t)
	m.wait()
	m.crash(cut, again(t))
}

// failedSyncs lets some syncs fail, and then perhaps the process or the machine.
func (m model) failedSyncs(t *rapid.T) {
	left := rapid.IntRange(1, 3).Draw(t, "syncs")
	m.setFault(func(_ int, call, _ string) error {
		if call == "sync" && left > 0 {
			left--
			return errInjected
		}
		return nil
	}, nil)
	m.commitSome(t)
	switch rapid.IntRange(0, 3).Draw(t, "then") {
	case 0:
		m.crash(false, again(t))
	case 1:
		m.crash(true, again(t))
	case 2:
		m.crash(false, 0)
		m.commitSome(t)
		m.crash(true, again(t))
	default:
		m.commitSome(t)
		m.setFault(nil, nil)
	}
}

func (m model) fileFaults(t *rapid.T) {
	one := rapid.SampledFrom([]int{2, 3, 10}).Draw(t, "one in")
	err := rapid.SampledFrom([]error{errInjected, unix.ENOSPC}).Draw(t, "error")
	m.setFault(func(_ int, call, _ string) error {
		if m.fs.rnd.IntN(one) > 0 || errors.Is(err, unix.ENOSPC) &&
			(call == "open" || call == "list" || call == "same" || call == "holds" || call == "remove") {
			return nil
		}
		return err
	}, nil)
}

func (m model) databaseFaults(t *rapid.T) {
	one := rapid.SampledFrom([]int{1, 2, 5}).Draw(t, "one in")
	m.setFault(nil, func(string) error {
		if m.db.rnd.IntN(one) > 0 {
			return nil
		}
		return errInjected
	})
}
