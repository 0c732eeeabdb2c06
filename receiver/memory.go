package receiver

// Bounds of what the file store remembers of one stream. The window is 16
// batches, and a sender fills a batch with 5,000 lines at most: what it can
// send again fits.
const (
	rememberLines = 1 << 17
	rememberRuns  = 1 << 10
)

// memory knows the checksums of the newest lines of one stream, in the order
// in which they were committed: 4 bytes a line.
type memory struct {
	runs  []run
	lines int
	end   uint64 // no line from here on is among them
}

// lookUp gives the checksum of the line seq, if it is remembered. A nil memory
// knows nothing.
func (m *memory) lookUp(seq uint64) (sum uint32, ok bool) {
	if m == nil || seq >= m.end { // which is the rule
		return 0, false
	}
	for i := len(m.runs) - 1; i >= 0; i-- {
		if r := &m.runs[i]; seq >= r.Seq && seq-r.Seq < uint64(len(r.CRCs)) {
			return r.CRCs[seq-r.Seq], true
		}
	}
	return 0, false
}

// add remembers r, and forgets what was committed first when that is too much.
func (m *memory) add(r run) {
	m.lines += len(r.CRCs)
	m.end = max(m.end, r.end())
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
