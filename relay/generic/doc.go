// Package generic sends a queue to a WebSocket server that does not speak
// wsrelay.v1: one line is one message, TEXT if it is UTF-8 and BINARY if not,
// without its newline.
//
//	queue ──Next──▶ cutter ──message──▶ window ──▶ server
//	  ▲                                   │          │
//	  └─────────────Ack(seq)──────────────┴──pong────┘ or an answer
//
// What counts as the server's word that a line has arrived is for the user to
// choose, since RFC 6455 has no such thing:
//
//   - [AckPing]: the pong to a ping that we send after the lines. A connection
//     keeps its order, so the hop that answers has read them: the next WebSocket hop.
//     What that one does then, it does not say.
//   - [AckReceipt]: an answer that carries the line's UID, or one answer for each
//     line, in their order.
//   - [AckNone]: that the operating system took the message. What was under way
//     when a connection breaks is lost.
//
// What holds with the first two, whatever network and server do:
//
//  1. A line leaves the queue only when it was acknowledged so; what was not is
//     sent again, after any break. A line may arrive more than once: at most
//     the window after a lost connection; after the end of the process up to
//     a block of the queue more; after one that came without warning, kill -9
//     or a power cut, all that was acknowledged in the last second as well,
//     for so old the queue's cursor on disk may be.
//  2. Lines are sent in the queue's order.
//  3. One line may always be under way, whatever its length.
//  4. Nothing that a server says acknowledges a line that was not sent, or
//     stops the reading of what it says.
//  5. Where lines will never come, a JSON object with "gap" says which and why,
//     and is acknowledged like a line.
package generic
