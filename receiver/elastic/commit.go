package elastic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const (
	firstPause = 100 * time.Millisecond
	maxTries   = 6 // about three seconds in all; then the caller is told
)

// Commit implements receiver.Store. Each record of a Result is counted once: as
// New, as Dup, or in Rejected, there also if its dead letter was there already.
// An error that is no *receiver.DivergedError is an *Error wherever the engine
// is the cause; some documents may then be stored, and trying again counts them
// as Dup.
func (s *Store) Commit(ctx context.Context, batches []receiver.Batch) ([]receiver.Result, error) {
	ops := newOps(s.prefix, batches)
	if len(ops) == 0 {
		return make([]receiver.Result, len(batches)), nil
	}
	sid := batches[0].SID
	absent := ops
	if documents, letters := s.streams.look(sid, ops[0].seq); letters {
		var err error
		if absent, err = s.absent(ctx, ops, !documents); err != nil {
			return nil, err
		}
	}
	if err := s.create(ctx, absent); err != nil {
		s.streams.forget(sid) // some may be stored, and not where the next try would put them
		return nil, err
	}
	fresh := len(absent) == len(ops) && !slices.ContainsFunc(ops, func(o *op) bool { return o.outcome == same })
	s.streams.passed(sid, ops[0].seq, batches[len(batches)-1].End(), fresh)
	return results(batches, ops), nil
}

// create brings every document to an outcome that is final.
func (s *Store) create(ctx context.Context, ops []*op) error {
	for try := 0; len(ops) > 0; {
		if err := s.indices.ensure(ctx, s.client, ops); err != nil {
			if err := s.wait(ctx, &try, err); err != nil {
				return err
			}
			continue
		}
		if err := s.bulks.do(ctx, ops); err != nil {
			return err
		}
		next, err := s.settle(ctx, ops)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(next, func(o *op) bool { return o.outcome == unknown }); i >= 0 {
			if err := s.wait(ctx, &try, next[i].err); err != nil {
				return err
			}
		}
		ops = next
	}
	return nil
}

// settle looks at the outcome of each document and gives those that are to be
// sent again, as they are or as dead letters.
func (s *Store) settle(ctx context.Context, ops []*op) (again []*op, err error) {
	var taken, blocked, spilled []*op
	for _, o := range ops {
		if o.outcome == unknown && o.err.isIndexBlock() && s.blocks.isOld(o.index) {
			o.outcome = refused
			if o.dead == nil {
				blocked = append(blocked, o)
				continue
			}
			o.outcome = failed
		}
		switch o.outcome {
		case exists:
			taken = append(taken, o)
		case stored:
			s.blocks.lifted(o.index)
			if o.dead != nil {
				o.outcome = rejected
			}
		case refused:
			o.bury(o.err)
			again = append(again, o)
		case failed:
			if o.err.Status == http.StatusNotFound { // the index was there once: the next try makes it
				s.indices.forget()
			}
			if o.dead == nil || s.deadFile == nil || !o.err.isFinal() {
				return nil, fmt.Errorf("create document %s in %s: %w", o.id, o.index, o.err)
			}
			spilled = append(spilled, o)
		default:
			again = append(again, o)
		}
	}
	if err := s.spill(spilled); err != nil {
		return nil, err
	}
	gone, err := s.compare(ctx, taken)
	if err != nil {
		return nil, err
	}
	buried, err := s.buryBlocked(ctx, blocked)
	return slices.Concat(again, gone, buried), err
}

// spill puts dead letters that the engine refuses into the local file.
func (s *Store) spill(ops []*op) error {
	if len(ops) == 0 {
		return nil
	}
	if err := s.deadFile.append(ops); err != nil {
		return err
	}
	s.log.Error("dead letters refused by the engine", "lines", len(ops), "err", ops[0].err,
		"effect", "they are in the local dead-letter file, and receipted",
		"hint", "mend the engine's index wsrelay-dead-*, then wsreceive replay with this file")
	for _, o := range ops {
		o.outcome = rejected
	}
	return nil
}

// wait sleeps longer after each try, and gives up with the cause after the
// last or when waiting does not help.
func (s *Store) wait(ctx context.Context, try *int, cause *Error) error {
	if *try++; *try >= maxTries || !cause.transient() {
		return cause
	}
	pause := s.pause << (*try - 1)
	timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func results(batches []receiver.Batch, ops []*op) []receiver.Result {
	results := make([]receiver.Result, len(batches))
	for _, o := range ops {
		r := &results[o.of]
		switch o.outcome {
		case stored:
			r.New++
		case same:
			r.Dup++
		case rejected:
			text := cut(o.dead.Type+": "+o.dead.Reason, handshake.MaxRejectedError)
			r.Rejected = append(r.Rejected, handshake.Rejected{Seq: o.seq, Status: o.dead.Status, Error: text})
		}
		if o.outcome != rejected || r.Index == "" {
			r.Index = o.index
		}
	}
	return results
}
