// Package handshake is the wire contract of wsrelay.v1: the frames that a
// sender and a receiver exchange over one WebSocket, and the names and
// checksums by which both know a record. It turns bytes into values and back;
// it knows no socket, no disk, no clock and no state of a session.
//
// The authority for the protocol, and for what each end does with a frame, is
// docs/protocol.md. The files in testdata say the same in bytes, for readers
// in any language.
//
// The life of a session:
//
//	sender                                 receiver
//	  │ hello  sid, acked, head, enc          │
//	  ├──────────────────────────────────────▶│
//	  │ chal  nonce, cb  (with a key only)    │
//	  │◀──────────────────────────────────────┤
//	  │ auth  mac                             │
//	  ├──────────────────────────────────────▶│
//	  │ welcome  mac, win, max, enc, hb       │
//	  │◀──────────────────────────────────────┤
//	  │ data 1..500   data 501..900           │
//	  ├──────────────────────────────────────▶│──▶ store
//	  │                      ack seq=501      │◀── it is final
//	  │◀──────────────────────────────────────┤
//	  │ gap 901..950 (they will never come)   │
//	  ├──────────────────────────────────────▶│──▶ store
//	  │                      ack seq=951      │◀── it is final
//	  │◀──────────────────────────────────────┤
//	  │ bye idle                              │
//	  ├──────────────────────────────────────▶│
//	  ╵ Close 1000                            ╵
//
// A control frame is a TEXT message, read and written by [Decode] and [Encode].
// Records travel in BINARY messages, read and written by [DecodeData] and
// [AppendData].
//
// # Invariants
//
// The tests cite these by number.
//
//  1. One reading. What Decode and DecodeData accept, every JSON reader reads
//     alike: UTF-8, whole numbers, member names of a-z, 0-9 and _ without
//     escapes, none of them twice in one object. Anything else is no frame.
//  2. A member that a frame does not know changes nothing.
//  3. What Encode and AppendData make of a frame that keeps the limits decodes
//     to an equal frame, and what decodes encodes to the same again.
//  4. An ack never outgrows MaxControl, whatever the store said about refused
//     lines: what is too much is counted, not listed.
//  5. Every sequence number, and every number just after a range, is exact in
//     a double; no range wraps around.
//  6. No duration that an end is to wait for exceeds MaxWait, so no timer
//     overflows.
//  7. Arbitrary bytes never panic; every error wraps ErrFrame.
//  8. UIDs have one length; those of a stream sort as its sequence numbers do;
//     ParseUID takes apart what UID put together and nothing else.
//  9. A MAC of a Transcript covers every byte of its messages, where each ends,
//     the channel binding, and which end it is of.
package handshake
