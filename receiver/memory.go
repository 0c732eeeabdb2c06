package receiver

import (
	"hash/crc32"
	"slices"
)

// Bounds of what the file store remembers of one stream: 64 KiB of checksums.
// They are there to find a sender that uses numbers a second time; lines that
// come again are known without them.
const (
	rememberLines = 1 << 14
	rememberRuns  = 1 << 10
)

// memory knows up to where one stream is committed, and the checksums of its
// newest lines: 4 bytes a line. A nil memory is that of a stream that is new.
type memory struct {
	runs  []run // ascending
	lines int
	end   uint64 // the number that the stream goes on with: what is below is committed

	// fork is where a sender that was restored from an older copy uses numbers
	// again that are committed; 0: the one that has a session was not.
	fork uint64
}

// begin notes that a session of the stream begins whose sender has given no
// number from head on.
func (m *memory) begin(head uint64) {
	m.fork = 0
	if head < m.end {
		m.fork = head
	}
}

// recall says whether a line was committed under the number seq, and whether it
// can be this one.
func (m *memory) recall(seq uint64, line []byte) (known, same bool) {
	switch {
	case m == nil || m.fork == 0 && seq >= m.end: // which is the rule
		return false, false
	case m.fork > 0 && seq >= m.fork:
		return true, false
	}
	i, _ := slices.BinarySearchFunc(m.runs, seq, func(r run, seq uint64) int {
		if r.end() <= seq {
			return -1
		}
		return +1
	})
	if i < len(m.runs) && m.runs[i].Seq <= seq {
		return true, m.runs[i].CRCs[seq-m.runs[i].Seq] == crc32.Checksum(line, castagnoli)
	}
	return true, m.fork == 0 // too old to be compared: only one that is not suspect is believed
}

// add remembers r, and forgets the oldest lines when they are too many. What is
// below end already, as it may be in a file of an older version, is passed over.
func (m *memory) add(r run) {
	if r.Seq < m.end {
		old := min(m.end-r.Seq, uint64(len(r.CRCs)))
		r.Seq, r.CRCs = r.Seq+old, r.CRCs[old:]
	}
	if len(r.CRCs) == 0 {
		return
	}
	m.lines += len(r.CRCs)
	m.end = r.end()
	if last := len(m.runs) - 1; last >= 0 && m.runs[last].end() == r.Seq {
		m.runs[last].CRCs = append(m.runs[last].CRCs, r.CRCs...)
	} else {
		m.runs = append(m.runs, r)
	}
	for m.lines > rememberLines || len(m.runs) > rememberRuns {
		oldest := &m.runs[0]
		n := len(oldest.CRCs)
		if len(m.runs) <= rememberRuns {
			n = min(n, m.lines-rememberLines)
		}
		oldest.Seq += uint64(n)
		oldest.CRCs = oldest.CRCs[n:]
		m.lines -= n
		if len(oldest.CRCs) == 0 {
			m.runs = m.runs[1:]
		}
	}
}

func (r *run) end() uint64 { return r.Seq + uint64(len(r.CRCs)) }
