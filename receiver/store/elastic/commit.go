package elastic

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

const (
	firstPause = 100 * time.Millisecond
	maxTries   = 6 // about three seconds in all; then the caller gets the error
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
	if err := s.verifyEngine(ctx); err != nil {
		return nil, err
	}
	for _, o := range ops {
		o.pipeline = s.pipeline
	}
	if s.stream != nil {
		if err := s.pinGeneration(ctx, ops); err != nil {
			return nil, err
		}
	}
	sid := batches[0].SID
	absent := ops
	if documents, letters := s.streams.lookupsFor(sid, ops[0].seq); letters {
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
		if err := s.ready(ctx, ops); err != nil {
			if err := s.wait(ctx, &try, err); err != nil {
				return err
			}
			continue
		}
		if err := s.bulks.do(ctx, ops, isAlone(ops)); err != nil {
			return err
		}
		moved, rest, err := s.follow(ctx, ops)
		if err != nil {
			return err
		}
		if err := s.tryRefused(ctx, rest, &try); err != nil {
			return err
		}
		next, err := s.classify(ctx, rest)
		if err != nil {
			return err
		}
		ops = slices.Concat(next, moved)
	}
	return nil
}

// isAlone reports whether a request with some of the documents was refused, or
// not answered, as a whole. Then they are kept apart from those of others.
func isAlone(ops []*op) bool {
	return slices.ContainsFunc(ops, func(o *op) bool { return o.err != nil && o.err.whole })
}

// ready makes sure that the indices are there, and writes the documents.
func (s *Store) ready(ctx context.Context, ops []*op) *Error {
	if err := s.indices.ensure(ctx, s.client, ops); err != nil {
		return err
	}
	learned := ""
	for _, o := range ops {
		if o.dead == nil && o.index != learned {
			s.names.learn(ctx, s.client, o.index)
			learned = o.index
		}
	}
	s.names.write(ops)
	return nil
}

// tryRefused waits where that may help, and finds out about the documents that
// were refused; when waiting has not helped, about these too.
func (s *Store) tryRefused(ctx context.Context, ops []*op, try *int) error {
	var suspects []*op
	waiting := -1
	for i, o := range ops {
		switch {
		case o.dead != nil && o.outcome == refused: // classify knows
		case o.outcome == refused && o.err.Status == http.StatusNotFound: // the next try makes the index again
			s.indices.forget()
			o.outcome = unknown
			waiting = i
		case o.outcome == refused:
			suspects = append(suspects, o)
		case o.outcome == unknown && !s.isBlockOld(o):
			waiting = i
		}
	}
	if waiting >= 0 {
		if err := s.wait(ctx, try, ops[waiting].err); err != nil {
			if asError(err) != ops[waiting].err {
				return err
			}
			*try = 0
			for _, o := range ops {
				if o.outcome == unknown && o.dead == nil && !s.isBlockOld(o) {
					suspects = append(suspects, o)
				}
			}
			if len(suspects) == 0 {
				return err
			}
		}
	}
	took := make(map[string]bool) // indices
	for _, o := range ops {
		took[o.index] = took[o.index] || o.outcome == stored
	}
	return s.try(ctx, suspects, took)
}

func (s *Store) isBlockOld(o *op) bool { return o.err.isIndexBlock() && s.blocks.isOld(o.index) }

// classify looks at the outcome of each document and gives those that are to be
// sent again, as they are or as dead letters.
func (s *Store) classify(ctx context.Context, ops []*op) (again []*op, err error) {
	var taken, guilty, spilled []*op
	for _, o := range ops {
		switch {
		case o.outcome == exists:
			taken = append(taken, o)
		case o.outcome == stored:
			s.blocks.lifted(o.index)
			if o.dead != nil {
				o.outcome = rejected
			}
		case o.outcome == unknown && !s.isBlockOld(o):
			again = append(again, o)
		case o.dead == nil: // refused, or blocked for long
			guilty = append(guilty, o)
		case s.deadFile == nil || !o.err.isFinal():
			return nil, refusal(o, o.err)
		default:
			spilled = append(spilled, o)
		}
	}
	if err := s.spill(spilled); err != nil {
		return nil, err
	}
	gone, err := s.compare(ctx, taken)
	if err != nil {
		return nil, err
	}
	buried, err := s.buryRefused(ctx, guilty)
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
		"effect", "they are in the local dead-letter file, and acknowledged",
		"hint", "fix the engine's index wsrelay-dead-*, then wsreceive replay with this file")
	for _, o := range ops {
		o.outcome = rejected
	}
	return nil
}

// wait sleeps longer after each try, and returns the cause after the
// last or when waiting does not help.
func (s *Store) wait(ctx context.Context, try *int, cause *Error) error {
	if *try++; *try >= maxTries || !cause.transient() && cause.Status != http.StatusNotFound {
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
