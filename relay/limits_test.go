package relay

import (
	"testing"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

func TestPacker_PutsNoMoreLinesIntoABatchThanReceiversMustTake(t *testing.T) {
	if most := max(joinLines, buffer.MaxBlockLines); most > handshake.MaxLines {
		t.Errorf("batches of up to %d lines, the protocol says %d", most, handshake.MaxLines)
	}
}
