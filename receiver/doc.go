// Package receiver is the remote end of wsrelay: it takes lines over WebSocket
// sessions, has a [Store] make them final, and only then answers with a
// receipt.
//
// One session is three goroutines, and what they share is small:
//
//	       ┌──────────────────── session ────────────────────┐
//	socket ─▶ reader ── verified batches ─▶ committer ─▶ Store
//	       │    │ nak                          │ ack, nak    │
//	       │    └──────────▶ writer ◀──────────┘             │
//	socket ◀─────────────────── ping, busy, bye, close       │
//	       └─────────────────────────────────────────────────┘
//
// The reader always reads, or no ping and no close would be seen. The
// committer takes every batch that waits and commits them together: the
// slower the store, the larger its transactions. The writer is the only one
// that writes messages, and it watches the store's clock.
//
// # Invariants
//
// The tests cite these by number.
//
//  1. A receipt is sent only for what Store.Commit has called final.
//  2. Batches reach the store in the order of their numbers, without a hole
//     and without an overlap, from the first batch of the session on.
//  3. What did not pass every check (checksum, encoding, size, lines) never
//     reaches the store.
//  4. Decoded batches of all sessions together never exceed Options.Budget;
//     a batch is paid for before it is decoded.
//  5. At most one session of a stream commits at any time: a newer one waits
//     until the older one's last Commit has returned.
//  6. No session goroutine outlives Shutdown.
//  7. Arbitrary bytes from a peer end at most their own session.
package receiver
