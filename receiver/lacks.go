package receiver

import (
	"log/slog"
	"time"

	"wsrelay/handshake"
)

// LogLacks says that a sender has receipts for numbers, from first on, that the store does
// not know: it was restored, emptied or exchanged.
func LogLacks(log *slog.Logger, hello *handshake.Hello, first uint64) {
	log.Warn("the store lacks lines that it has acknowledged", "sid", hello.SID, "host", hello.Host,
		"first", first, "lines", hello.Acked-first,
		"effect", "these lines are not in this store, and their sender no longer has them; a gap has their numbers",
		"hint", "expected once after the store was restored, emptied or exchanged; otherwise find out who has changed its directory")
}

// LacksGap is the gap that names such lines, from first up to end.
func LacksGap(sid, host string, first, end uint64) Batch {
	now := time.Now().UTC()
	gap := handshake.Gap{Seq: first, N: end - first, Why: "restored", Maybe: true, At: now.UnixMilli()}
	return Batch{SID: sid, Host: host, Seq: first, At: now, Gap: &gap}
}
