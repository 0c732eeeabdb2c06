package relay

import (
	"fmt"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

// What the receiver does not take, and what becomes of it.

// refusals counts how often the same number was refused.
type refusals struct {
	seq uint64
	n   int
}

// The third time a number is refused its block is sent decoded, in case the
// encoding is the trouble; after that in smaller and smaller batches, until it
// is one line that is refused.
const (
	refusalsPlain = 3
	refusalsHalve = 4
)

// adapt changes how the refused batch is sent the next time.
func (s *session) adapt(n *handshake.Nak) *Fault {
	switch n.Code {
	case handshake.NakTooBig:
		return s.shrinkBatches(n)
	case handshake.NakCRC, handshake.NakDecode, handshake.NakOrder:
		if s.naks.n >= refusalsHalve {
			return s.halveBatch(n)
		}
		if s.naks.n >= refusalsPlain {
			s.pack.plain = n.Expect
		}
		return nil
	}
	return protocolError(websocket.CloseProtocolError, fmt.Errorf("a nak with code %q", clean(n.Code)))
}

// shrinkBatches lowers the size of batches to half of what the receiver refused, or to
// what it names if that is less. So refusals end, at the latest with a single line,
// which is dropped.
func (s *session) shrinkBatches(n *handshake.Nak) *Fault {
	f, ok := s.win.at(n.Expect)
	switch {
	case !ok:
		return protocolError(websocket.CloseProtocolError, fmt.Errorf("a nak for %d, which is not on its way",
			n.Expect))
	case f.end-f.seq == 1 && f.raw <= fairLine:
		return tooLong(fmt.Errorf("seq %d", f.seq))
	case f.end-f.seq == 1:
		s.pack.reject(f.seq, buffer.Gap{Why: handshake.GapOversize})
		return nil
	}
	s.pack.maxDecoded = max(f.raw/2, 1)
	if n.Max > 0 && n.Max < int64(s.pack.maxDecoded) {
		s.pack.maxDecoded = int(n.Max)
	}
	return nil
}

// halveBatch halves the batch that is refused again and again; a single line is
// dropped. But if nothing was accepted since the last line was dropped, the trouble is
// not in the lines, and the queue must not be emptied into gaps: then the session
// ends.
func (s *session) halveBatch(n *handshake.Nak) *Fault {
	f, ok := s.win.at(n.Expect)
	switch {
	case !ok || f.raw == 0 || n.Code == handshake.NakOrder, s.r.suspect != 0 && s.r.suspect != n.Expect:
		return Permanent("the receiver refuses a batch repeatedly",
			hintServer+"; if only this one is refused, report it", fmt.Errorf("%s at %d", n.Code, n.Expect))
	case f.end-f.seq > 1:
		s.pack.ceiling, s.pack.plain = max(f.raw/2, 1), n.Expect
	default:
		s.r.suspect = n.Expect
		s.pack.reject(n.Expect, buffer.Gap{Why: handshake.GapDamaged, Maybe: true})
	}
	return nil
}

// quarantine keeps the bytes of a line that the receiver will never get, and logs which
// it is, before the gap is sent. If they cannot be kept, the line stays.
func (s *session) quarantine(b *batch) *Fault {
	if b.seq == s.r.dropped {
		return nil
	}
	where, err := "nowhere", error(nil)
	if s.r.o.Quarantine != nil {
		where, err = s.r.o.Quarantine(s.sid, b.seq, b.lost, b.gap.Why)
	}
	if err != nil {
		return Transient("cannot quarantine a line that the receiver refuses",
			"look at the disk and at the queue's directory", err)
	}
	s.r.dropped = b.seq
	hint := "raise the receiver's limit for lines, or have shorter ones written"
	if b.gap.Why == handshake.GapDamaged {
		hint = hintServer + ": it finds this line damaged each time; report it with both logs"
	}
	s.log.Error("a line is dropped: the receiver refuses it", "seq", b.seq, "uid", handshake.UID(s.sid, b.seq),
		"bytes", len(b.lost), "why", b.gap.Why, "kept", where,
		"effect", "a document with its number takes its place, and other lines are delivered", "hint", hint)
	return nil
}
