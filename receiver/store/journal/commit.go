package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// buffers are used again: a commit copies its lines, encoded, once.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const keepBuffer = 4 << 20

// fullWait is how long a Commit waits while the journal is full and the database takes
// what is in it.
const fullWait = 10 * time.Second

// Commit implements receiver.Store.
func (j *Journal) Commit(ctx context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	for end := time.Now().Add(fullWait); ; {
		changed := j.nextChange()
		results, err := j.commit(ctx, batches)
		if behind := (behindError{}); !errors.As(err, &behind) || !j.awaitChange(ctx, changed, time.Until(end)) {
			return results, err
		}
	}
}

// nextChange is closed when a segment is retired, or the applier fails.
func (j *Journal) nextChange() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changed
}

// awaitChange waits for a change; false: none came in time, or the applier fails.
func (j *Journal) awaitChange(ctx context.Context, changed <-chan struct{}, most time.Duration) bool {
	j.mu.Lock()
	failed := j.failed
	j.mu.Unlock()
	if failed != nil {
		return false
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-changed:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (j *Journal) commit(ctx context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	if len(batches) == 0 {
		return nil, nil
	}
	if err := validate(batches); err != nil {
		return nil, err
	}
	st := j.acquire(batches[0].SID)
	defer j.release(st)
	buf := buffers.Get().(*[]byte)
	r := &request{st: st, sid: st.SID, buf: (*buf)[:0]}
	defer func() {
		if *buf = r.buf; cap(r.buf) <= keepBuffer {
			buffers.Put(buf)
		}
	}()
	results := make([]receiver.Result, len(batches))
	for i := range batches {
		var err error
		if results[i], err = j.classify(ctx, r, &batches[i]); err != nil {
			return nil, err
		}
	}
	r.host = batches[len(batches)-1].Host
	err := ctx.Err()
	if err == nil {
		err = j.write(r) // from here on the outcome is waited for: the lines are being read
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", j.path, err)
	}
	return results, nil
}

// validate refuses what no sender may send, before anything is stored of it.
func validate(batches []receiver.Batch) error {
	next := uint64(1)
	for i := range batches {
		b := &batches[i]
		first, end := b.Seq, b.End()
		if b.Gap != nil {
			first = b.Gap.Seq
		}
		switch {
		case b.SID != batches[0].SID || len(b.SID) > math.MaxUint8 || len(b.Host) > math.MaxUint16:
			return &receiver.RefusedError{Reason: "the names of stream and host are not those of one sender"}
		case first < next || end < first || end > handshake.MaxSeq+1:
			return &receiver.RefusedError{Reason: fmt.Sprintf("seq %d to %d: not ascending from %d on, or above %d",
				first, end-1, next, uint64(handshake.MaxSeq))}
		}
		next = end
	}
	return nil
}

// classify adds to r what of a batch is new.
func (j *Journal) classify(ctx context.Context, r *request, b *receiver.Batch) (receiver.Result, error) {
	if g := b.Gap; g != nil {
		if r.st.Gaps.covers(g.Seq, g.Seq+g.N) {
			return receiver.Result{Dup: 1}, nil
		}
		text, err := json.Marshal(g)
		if err != nil {
			return receiver.Result{}, err
		}
		r.add(&record{kind: kindGap, sid: b.SID, host: b.Host, seq: g.Seq, at: b.At, payload: text})
		r.gaps.add(g.Seq, g.Seq+g.N)
		return receiver.Result{New: 1}, nil
	}
	fresh, err := j.newLines(ctx, r.st, b)
	if err != nil {
		return receiver.Result{}, err
	}
	for _, p := range fresh {
		from, to := int(p[0]-b.Seq), int(p[1]-b.Seq)
		text := b.Text(from, to)
		if bytes.Count(text, newline) != to-from {
			return receiver.Result{}, &receiver.RefusedError{Reason: "a line has a newline in it"}
		}
		r.add(&record{
			kind: kindLines, sid: b.SID, host: b.Host, seq: p[0], n: uint32(to - from), at: b.At,
			payload: text,
		})
		sums := make([]uint32, 0, to-from)
		for _, line := range b.Lines[from:to] {
			sums = append(sums, sumOf(line))
		}
		r.runs = append(r.runs, run{p[0], sums})
	}
	added := int(fresh.Count())
	return receiver.Result{New: added, Dup: len(b.Lines) - added}, nil
}

var newline = []byte{'\n'}

// newLines gives the numbers of a batch that are new. The others must be of the
// same lines (J5).
func (j *Journal) newLines(ctx context.Context, st *stream, b *receiver.Batch) (fresh Spans, err error) {
	end := b.End()
	var ask Spans
	st.Lines.split(b.Seq, end, func(from, to uint64, in bool) {
		if in {
			ask.add(from, to)
			return
		}
		ask.add(from, min(to, st.Forgot))
		fresh.add(max(from, st.Forgot), to)
	})
	st.Lacks.split(b.Seq, end, func(from, to uint64, in bool) {
		if in { // it was stored once, and the database lacks it
			ask.remove(from, to)
			fresh.add(from, to)
		}
	})
	if len(ask) == 0 {
		return fresh, nil
	}
	known, err := j.sumsOf(ctx, st, b.Seq, end, ask)
	if err != nil {
		return nil, err
	}
	for _, p := range ask {
		for seq := p[0]; seq < p[1]; seq++ {
			sum, found := known[seq]
			switch committed := seq >= st.Forgot || st.Lines.covers(seq, seq+1); {
			case found && sum == sumOf(b.Lines[seq-b.Seq]):
			case found, committed && seq >= st.fork: // or it cannot be compared, and its sender began again below it
				return nil, &receiver.DivergedError{SID: b.SID, Seq: seq}
			case !committed:
				fresh.add(seq, seq+1)
			}
		}
	}
	return fresh, nil
}

// sumsOf gives the checksums of the lines that are asked for, as far as there are
// any: what retention has taken has none.
func (j *Journal) sumsOf(ctx context.Context, st *stream, from, end uint64, ask Spans) (map[uint64]uint32, error) {
	left := append(Spans(nil), ask...)
	known := make(map[uint64]uint32, ask.Count())
	found := func(seq uint64, sum uint32) {
		if ask.covers(seq, seq+1) {
			known[seq] = sum
		}
	}
	j.recent.get(st.number, from, end, found)
	remaining := func() bool {
		left = left[:0]
		for _, p := range ask {
			for seq := p[0]; seq < p[1]; seq++ {
				if _, ok := known[seq]; !ok {
					left.add(seq, seq+1)
				}
			}
		}
		return len(left) > 0
	}
	if !remaining() {
		return known, nil
	}
	if err := j.eachLine(st.SID, left[0][0], left.End(), found); err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	if !remaining() {
		return known, nil
	}
	if err := j.db.Sums(ctx, st.SID, left[0][0], left.End(), found); err != nil {
		return nil, fmt.Errorf("ask the database for checksums: %w", err)
	}
	return known, nil
}

// eachLine calls f with the checksums of the lines of a stream that are in the
// journal. What leaves it meanwhile is in the database by then.
func (j *Journal) eachLine(sid string, from, to uint64, f func(seq uint64, sum uint32)) error {
	type part struct {
		s   *segment
		end int64
	}
	var parts []part
	j.mu.Lock()
	for _, s := range j.segs {
		if p, ok := s.has[sid]; ok && p[0] < to && from < p[1] {
			parts = append(parts, part{s, s.end})
		}
	}
	j.mu.Unlock()
	for _, p := range parts {
		err := eachRecord(p.s.scan(segHead, p.end), func(r *record) error {
			if r.kind != kindLines || r.sid != sid || r.seq >= to || r.seq+uint64(r.n) <= from {
				return nil
			}
			b, _, err := r.batch(nil)
			for i, line := range b.Lines {
				f(r.seq+uint64(i), sumOf(line))
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrClosed) { // closed: it has just left the journal
			return err
		}
	}
	return nil
}
