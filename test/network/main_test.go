// Package network proves that no network costs a line: wsrelay and wsreceive,
// as they are installed, each in a network namespace of its own, with a wire in
// between that the test carries packet by packet.
//
//	feeder ══pipe══▶ wsrelay        wsreceive ─▶ file ─▶ judge
//	5,000 lines/s       │               │
//	                  net0 ── wire ── net0       each packet 50 to 150 ms late
//	                    └── nft rules ──┘        one in a hundred lost; at times all, silently
//
// Meanwhile both programs are killed at random, also while a long queue drains.
// In the end the file must have every line once and in order. The exception is
// what the kill of a keeper may cost, which is known to the line.
package network

import (
	"testing"

	"wsrelay/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
