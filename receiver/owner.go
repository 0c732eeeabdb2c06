package receiver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"wsrelay/handshake"
)

// Anybody is the owner of a stream whose sender has shown a receipt of it, but
// has not proved who it is. The first sender that proves a name becomes the owner.
const Anybody = "*"

// ownersOf gives what remembers the owners of streams: the store, or one that it
// stands for, or for a store that cannot, the receiver as long as it runs.
func ownersOf(s Store) Owners {
	if o, ok := storeAs[Owners](s); ok {
		return o
	}
	return &memoryOwners{}
}

// authorizeStream makes sure that the stream of hello is the sender's, or becomes it, and that
// the receipt that hello shows is good where one is needed. Without authentication, a
// stream is anybody's.
func (s *session) authorizeStream(a *Access) *closeReason {
	required, shown := a.requiresProofOf(s), s.showsReceipt(a)
	if !required && !a.RequireReceipt {
		return s.checkReceipt(a, shown, true)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.r.opts.HandshakeTimeout)
	defer cancel()
	owner, err := s.r.owners.Owner(ctx, s.hello.SID)
	if err != nil {
		return s.ownerUnknown(err)
	}
	free := owner == "" || required && owner == Anybody
	if required && !free && !s.proves(owner) {
		return &closeReason{
			code: handshake.CloseForbidden, msg: "this stream belongs to another sender",
			log: fmt.Sprintf("the stream belongs to %q, and the sender is %s; if the sender is right, run wsreceive streams move", owner, names(s.who)),
		}
	}
	if e := s.checkReceipt(a, shown, free || required); e != nil {
		return e
	}
	name := Anybody
	switch {
	case !free, !required && shown != receiptOwn:
		return nil
	case required:
		name = s.who[len(s.who)-1].Name
		if owner == "" && !s.party.allowStream() {
			return tooMany("this sender has started too many streams within the hour")
		}
	}
	if owner, err = s.r.owners.SetOwner(ctx, s.hello.SID, owner, name); err != nil {
		return s.ownerUnknown(err)
	}
	if required && !s.proves(owner) { // another receiver was faster
		return &closeReason{
			code: handshake.CloseForbidden, msg: "this stream belongs to another sender",
			log: fmt.Sprintf("the stream belongs to %q", owner),
		}
	}
	return nil
}

func (s *session) proves(owner string) bool {
	return slices.ContainsFunc(s.who, func(w identity) bool { return w.Name == owner })
}

func (s *session) ownerUnknown(err error) *closeReason {
	if s.ctx.Err() != nil {
		return s.why()
	}
	s.r.health.failed(s.hello.SID, s.hello.Host, err)
	return &closeReason{
		code: handshake.CloseStoreDown, msg: "the store does not answer who owns this stream",
		log: err.Error(),
	}
}

// What hello shows of a receipt.
type receipt int

const (
	receiptNone  receipt = iota // and none can be expected: the stream is new
	receiptLacks                // one should be there, or it is not good
	receiptOther                // a good one of another stream, as after a change of sid
	receiptOwn                  // a good one of this stream
)

func (s *session) showsReceipt(a *Access) receipt {
	p := s.hello.Proof
	switch {
	case a.ReceiptSecret == nil, p == nil && s.hello.Acked == 1:
		return receiptNone
	case p == nil || !p.Verify(a.ReceiptSecret):
		return receiptLacks
	case !strings.HasPrefix(p.UID, s.hello.SID):
		return receiptOther
	}
	return receiptOwn
}

// checkReceipt says whether hello may show this of a receipt. It need not be one
// of this stream if the stream is new, or the sender's by a name that it proves.
// One that is not valid proves nothing alone: another store may have given it.
func (s *session) checkReceipt(a *Access, shown receipt, own bool) *closeReason {
	switch {
	case shown == receiptOwn, shown != receiptLacks && own:
		return nil
	case a.RequireReceipt:
		return &closeReason{
			code: handshake.CloseForbidden, msg: "the sender presents no receipt of this store",
			log: "no valid receipt",
		}
	}
	s.log.Warn("sender presents no receipt of this store", "acked", s.hello.Acked, "shown", s.hello.Proof != nil,
		"effect", "none: what it sends is stored once all the same",
		"hint", "expected once after a new --receipt-secret or store; otherwise its queue may be a copy, or another store has acknowledged the lines")
	return nil
}

func tooMany(msg string) *closeReason {
	return &closeReason{code: handshake.CloseQuota, msg: msg, after: quotaRetry}
}

// quotaRetry is how soon a sender may come back that has used up its quota.
const quotaRetry = time.Minute

// memoryOwners is Owners that last as long as the process.
type memoryOwners struct {
	mu    sync.Mutex // guards names
	names map[string]string
}

func (o *memoryOwners) Owner(_ context.Context, sid string) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.names[sid], nil
}

func (o *memoryOwners) SetOwner(_ context.Context, sid, from, to string) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.names == nil {
		o.names = map[string]string{}
	}
	if o.names[sid] == from {
		o.names[sid] = to
	}
	return o.names[sid], nil
}

func (o *memoryOwners) EachOwner(_ context.Context, f func(sid, owner string) bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for sid, owner := range o.names {
		if !f(sid, owner) {
			break
		}
	}
	return nil
}
