// Wsrelay ships the lines on its standard input to a WebSocket receiver, by way
// of a queue on disk: nothing is lost and nothing doubled, whatever happens to
// the network or to wsrelay itself.
//
//	stdin ─▶ intake ─▶ buffer (disk) ─▶ relay ══ws══▶ receiver
//	                     ▲                │
//	                     └─── receipts ───┘
package main

import (
	"os"

	"wsrelay/internal/cli/wsrelay"
)

func main() { os.Exit(wsrelay.Main()) }
