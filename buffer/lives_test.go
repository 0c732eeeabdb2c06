package buffer

import (
	"context"
	"fmt"
	"testing/synctest"
	"time"
)

// start opens the queue; an error says that the process died of a fault.
func (w *world) start() (*Recovery, error) {
	w.o.LiveInput = LiveInput{Intake: w.intake, Mark: w.mark}
	q, rec, err := open(w.fs, w.o)
	if err != nil {
		return nil, err
	}
	w.q, w.took = q, w.fs.held()
	return rec, nil
}

func (w *world) mustStart() *Recovery {
	w.Helper()
	rec, err := w.start()
	if err != nil {
		w.Fatalf("open: %v", err)
	}
	return rec
}

// abandon releases a queue whose process is dead.
func (w *world) abandon() {
	if w.q == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = w.q.Close(ctx)
	w.q = nil
}

// stop closes the queue; false: it could not, and the process is dead.
func (w *world) stop() bool {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := w.q.Close(ctx)
	trouble := w.q.Stats().Trouble
	w.q = nil
	if err != nil && !w.faulty && trouble == nil {
		w.Fatalf("close: %v", err)
	}
	if err == nil {
		w.proved, w.unsure = w.head, w.head
	}
	return err == nil
}

func (w *world) restart() {
	w.Helper()
	if !w.stop() {
		w.crash((*strictFS).kill, 0)
		return
	}
	w.setFault(nil)
	rec := w.mustStart()
	if s := w.q.Stats(); !w.scarred && (s.Head != w.head || s.Cursor != w.acked) {
		w.Fatalf("after a restart: head %d cursor %d, want %d %d", s.Head, s.Cursor, w.head, w.acked)
	}
	w.resume(rec)
}

// crash ends the process or the machine, and starts it again; if again > 0 it
// ends once more at that call of the recovery.
func (w *world) crash(how func(*strictFS) *strictFS, again int) {
	w.Helper()
	w.end1(how)
	if again > 0 {
		w.fs.crashAt = again
		_, _ = w.start()
		synctest.Wait()
		w.end1(how)
	}
	w.resume(w.mustStart())
}

// end1 is one end of a process.
func (w *world) end1(how func(*strictFS) *strictFS) {
	w.Helper()
	w.mustHaveFailed()
	next := how(w.fs)
	w.abandon()
	w.fs, w.faulty = next, false
	if next.wasCut {
		w.intake, w.stream, w.end, w.mark = w.intake+1, nil, 0, 0
	}
}

// resume compares what the queue says after a start with what it may say (I4,
// I5), and feeds it what the spool has and the queue has not.
func (w *world) resume(rec *Recovery) {
	w.Helper()
	s := w.q.Stats()
	floor := w.proved
	if w.scarred {
		floor = min(floor, w.unsure)
	}
	if s.Head < floor || s.Head > w.head || s.Cursor > w.acked && !w.scarred {
		w.Fatalf("after a start: head %d, promised %d, was %d; cursor %d, acked %d", s.Head, floor, w.head, s.Cursor,
			w.acked)
	}
	if rec.NewSID != w.moved && s.Head > 1 && !w.beyond {
		w.Fatalf("new stream: %v, want %v", rec.NewSID, w.moved)
	}
	w.moved = false
	for _, r := range rec.Gaps {
		for seq := r.First; seq < r.End; seq++ {
			if !w.hurt[seq] && !w.gone[seq] && (seq < w.proved || w.where[w.lines[seq]] != "") {
				w.Fatalf("recovery lost %v: %d was promised (%d)", r, seq, w.proved)
			}
			w.named[seq] = true
		}
	}
	sids := w.identity()
	for seq := s.Head; seq < w.head; seq++ {
		if w.scarred {
			w.former[seq] = append(w.former[seq], w.lines[seq])
			delete(w.where, w.lines[seq])
			delete(w.ever, fmt.Sprint(sids.sid(seq), " ", seq))
		}
		delete(w.lines, seq)
		delete(w.gone, seq)
		delete(w.hurt, seq)
		delete(w.named, seq)
	}
	w.head, w.acked, w.proved = s.Head, s.Cursor, min(w.proved, s.Head)
	w.out, w.ranges = s.Cursor, nil
	w.unsure = min(w.unsure, w.head)
	w.replay(rec)
}

func (w *world) identity() identity {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.q.ident
}

// replay feeds what is in the spool and not on disk.
func (w *world) replay(rec *Recovery) {
	w.Helper()
	end, _, _ := rec.Intake(w.intake)
	if end < w.mark && !w.scarred {
		w.Fatalf("intake is on disk up to %d, was up to %d", end, w.mark)
	}
	end = max(end, w.mark)
	k := 0
	for k < len(w.stream) && w.stream[k].start < end {
		k++
	}
	if k > 0 && w.stream[k-1].end > end {
		w.Fatalf("the intake continues at %d, within a line", end)
	}
	if k > 0 && !w.scarred && w.lines[w.head-1] != w.stream[k-1].text {
		w.Fatalf("the queue ends with %.40q, the intake continues behind %.40q", w.lines[w.head-1], w.stream[k-1].text)
	}
	w.feed(k)
}
