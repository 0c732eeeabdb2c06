package receiver

import (
	"errors"
	"io"

	"wsrelay/handshake"
	"wsrelay/internal/codec"
)

// Bounds of what one batch may hold in memory.
const (
	lineHeader = 24         // bytes of a []byte
	maxCost    = 2 * maxRaw // of a batch: lines of a byte each would need 13 times their size
)

// errDecode says that a payload is not the encoding of d.Raw bytes.
var errDecode = errors.New("payload does not decode to what its header says")

// errCRC says that a payload is not what was sent.
var errCRC = errors.New("payload does not match its checksum")

// nakFor gives the code of the nak that refuses a payload; empty: err is one of
// the connection.
func nakFor(err error) string {
	switch {
	case errors.Is(err, errCRC):
		return handshake.NakCRC
	case errors.Is(err, errDecode):
		return handshake.NakDecode
	}
	return ""
}

// readWire reads the payload of d from r into memory that grows as it comes. Each
// time, grow is asked for more; it gives false when the session has ended. Errors
// for which nakFor has a code may come before r was read to its end.
func readWire(d handshake.Data, r io.Reader, grow func(size int) bool) (wire *body, err error) {
	c, known := codec.Named(d.Enc)
	if !known {
		return nil, errDecode
	}
	n, limit := 0, c.MaxEncoded(d.Raw)
	for _, size := range []int{arriveSize, growSize, limit} {
		size = min(size, limit)
		if wire != nil && size <= n {
			continue
		}
		if !grow(size) {
			err = errEnded
			break
		}
		old := wire
		wire = acquireBody(size)
		if old != nil {
			copy(wire.text, old.text)
			old.recycle()
		}
		var m int
		m, err = io.ReadFull(r, wire.text[n:])
		if n += m; err != nil {
			break
		}
	}
	if err == nil { // the limit: is that all?
		var more [1]byte
		if _, err = io.ReadFull(r, more[:]); err == nil {
			err = errDecode
		}
	}
	if isShort(err) {
		wire.text = wire.text[:n]
		if err = errCRC; handshake.CRC(wire.text) == d.C {
			return wire, nil
		}
	}
	if wire != nil {
		wire.recycle()
	}
	return nil, err
}

// errEnded says that the session has ended meanwhile.
var errEnded = errors.New("session ended")

// check reports whether a payload says of itself that it is of d.Raw bytes: no
// memory is reserved for one that does not.
func check(d handshake.Data, wire []byte) bool {
	c, known := codec.Named(d.Enc)
	return known && c.HasSize(wire, d.Raw)
}

// decode makes the body of a payload that has passed check, and takes wire.
func decode(d handshake.Data, wire *body) (*body, error) {
	if d.Enc == handshake.EncRaw {
		if !wire.split(d.N) {
			wire.recycle()
			return nil, errDecode
		}
		return wire, nil
	}
	defer wire.recycle()
	return newBody(d, func(text []byte) error {
		c, _ := codec.Named(d.Enc) // check has seen it
		if _, err := c.Decode(text[:0:len(text)], wire.text, len(text)); err != nil {
			return errDecode
		}
		return nil
	})
}

func isShort(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
