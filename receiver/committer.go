package receiver

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/gorilla/websocket"

	"wsrelay/handshake"
	"wsrelay/internal/retry"
)

// commitBatches makes batches final until the queue is closed, which means
// that the sender has said bye, or the session ends.
func (s *session) commitBatches(turn *stream) {
	s.storeSince.Store(time.Now().UnixNano()) // an older session may hold the store
	if !turn.acquire(s.ctx) {
		return
	}
	defer turn.releaseTurn()
	s.storeSince.Store(0)
	s.r.store.Begin(s.hello)
	for {
		group := s.waiting()
		if s.ctx.Err() != nil { // what waits now is returned by dropQueued
			s.drop(group)
			return
		}
		if group == nil {
			s.end(&closeReason{code: websocket.CloseNormalClosure, msg: "bye"})
			return
		}
		s.commit(group)
		s.drop(group)
	}
}

// waiting is every batch that waits, at least one; nil when there will be none.
func (s *session) waiting() []*item {
	var group []*item
	select {
	case it, ok := <-s.queue:
		if !ok {
			return nil
		}
		group = append(group, it)
	case <-s.ctx.Done():
		return nil
	}
	for {
		select {
		case it, ok := <-s.queue:
			if !ok {
				return group
			}
			group = append(group, it)
		default:
			return group
		}
	}
}

// commit makes a group final and says so. When the store holds another line
// somewhere in it, what stands before is made final first: the sender continues
// at the difference and will not come back to what is below.
func (s *session) commit(group []*item) {
	for len(group) > 0 && !s.order.isCurrent(group[0].epoch) { // drained after a rewind
		group = group[1:]
	}
	var diverged *DivergedError
	var b uint64 // the batch that holds it
	err := s.commitAndAck(group)
	for errors.As(err, &diverged) {
		if group, b = splitAt(group, diverged.Seq); b == 0 {
			s.end(&closeReason{
				code: websocket.CloseInternalServerErr,
				msg:  "the store named a line that was not given to it",
			})
			return
		}
		err = s.commitAndAck(group)
	}
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		s.log.Error("lines refused by the store", "reason", refused.Reason,
			"effect", "nothing of this sender is stored; its lines wait in its queue, and other senders are not affected",
			"hint", "the sender is faulty, or not what it seems")
		s.r.fleet.refused(s, refused.Reason)
		s.end(&closeReason{code: handshake.CloseForbidden, msg: refused.Reason})
		return
	}
	if diverged == nil || s.ctx.Err() != nil {
		return
	}
	s.log.Error("stream diverged", "seq", diverged.Seq,
		"effect", "the store holds another line under this number; nothing is overwritten, and nothing from here on is acknowledged under this stream",
		"hint", "the sender's queue, or the store, was restored from an older copy; the sender continues automatically under a new stream id")
	s.r.fleet.diverged(s)
	s.order.rewind(diverged.Seq)
	s.send(&handshake.Nak{B: b, Code: handshake.NakDiverged, Expect: diverged.Seq})
}

// commitAndAck tries until the store answers or the session ends; the error is
// then a *DivergedError or a *RefusedError, or says that there was no answer.
func (s *session) commitAndAck(group []*item) error {
	if len(group) == 0 {
		return nil
	}
	batches := make([]Batch, len(group))
	for i, it := range group {
		batches[i] = it.Batch
	}
	start := time.Now()
	s.storeSince.Store(start.UnixNano())
	defer s.storeSince.Store(0)
	s.r.fleet.commitStarted(s, group[0].At)

	var results []Result
	try := func() (err error) {
		results, err = s.r.store.Commit(s.commitCtx, batches)
		diverged, refused := (*DivergedError)(nil), (*RefusedError)(nil)
		if errors.As(err, &diverged) || errors.As(err, &refused) {
			return backoff.Permanent(err)
		}
		return err
	}
	err := backoff.RetryNotify(try, backoff.WithContext(retry.Store(5*time.Second), s.ctx),
		func(err error, _ time.Duration) {
			if s.commitCtx.Err() == nil {
				s.r.health.failed(s.hello.SID, s.hello.Host, err)
			}
		})
	if err != nil {
		return err
	}
	s.r.health.works(s.hello.SID)
	s.r.counters.committed(group, results, time.Since(start))
	s.r.fleet.committed(s, group, results)
	s.ack(group, results, time.Since(start))
	return nil
}

func (s *session) ack(group []*item, results []Result, took time.Duration) {
	first, last := group[0], group[len(group)-1]
	ack := &handshake.Ack{
		Seq:  last.End(),
		B:    last.b,
		UID:  &handshake.UIDs{First: first.firstUID(), Last: last.lastUID()},
		Took: took.Milliseconds(),
	}
	for _, r := range results {
		ack.New += r.New
		ack.Dup += r.Dup
		ack.Rej = append(ack.Rej, r.Rejected...)
		if r.Index != "" {
			ack.Index = r.Index
		}
	}
	if secret := s.r.access.Load().ReceiptSecret; secret != nil {
		ack.RT = handshake.ReceiptToken(secret, s.hello.SID, ack.Seq, ack.UID.Last)
	}
	s.lines.Add(int64(ack.New + ack.Dup))
	s.send(ack)
}

func (b *Batch) firstUID() string {
	if b.Gap != nil {
		return handshake.GapID(b.SID, b.Gap.Seq, b.Gap.N)
	}
	return handshake.UID(b.SID, b.Seq)
}

func (b *Batch) lastUID() string {
	if b.Gap != nil {
		return b.firstUID()
	}
	return handshake.UID(b.SID, b.End()-1)
}

// splitAt gives the part of group below seq, its last batch shortened if need
// be, and the number of the batch that holds seq.
func splitAt(group []*item, seq uint64) (below []*item, b uint64) {
	for _, it := range group {
		if it.End() <= seq {
			below = append(below, it)
			continue
		}
		if it.Gap == nil && it.Seq < seq {
			it.Lines = it.Lines[:seq-it.Seq]
			below = append(below, it)
		}
		return below, it.b
	}
	return below, 0
}

// drop returns what the group holds.
func (s *session) drop(group []*item) {
	for _, it := range group {
		s.release(it)
	}
}

// release returns the memory of a batch, and its part of the budget. Nobody may
// look at its lines any more.
func (s *session) release(it *item) {
	if it.body != nil {
		it.body.recycle()
	}
	it.held.release()
}

// dropQueued drops what no committer will take any more.
func (s *session) dropQueued() {
	for {
		select {
		case it, ok := <-s.queue:
			if !ok {
				return
			}
			s.release(it)
		default:
			return
		}
	}
}
