package logs

import (
	"context"
	"os"
	"slices"
	"strings"
)

// Report is what Verify found.
type Report struct {
	Streams []Difference
	Damaged []string // in the folder damaged
	Deleted bool     // retention has deleted days: rows may be missing for it
}

// Difference is what the journal and the database hold of one stream.
type Difference struct {
	SID             string
	Lines           uint64 // that the journal knows to be final
	Rows, GapRows   uint64 // in the database
	Missing, Excess uint64 // rows
}

// Verify compares what the journal says of each stream with the rows that are there.
func (s *Store) Verify(ctx context.Context) (*Report, error) {
	least := map[string]uint64{} // lines that must be there; more may come meanwhile
	for _, w := range s.Streams() {
		least[w.SID] = w.Lines.Count()
	}
	if err := s.Wait(ctx); err != nil {
		return nil, err
	}
	have, err := s.db.streams(ctx)
	if err != nil {
		return nil, err
	}
	want := s.Streams()
	r := &Report{}
	if r.Damaged, err = s.damage.list(); err != nil {
		return nil, err
	}
	for _, w := range want {
		h := have[w.SID]
		delete(have, w.SID)
		d := Difference{SID: w.SID, Lines: w.Lines.Count(), Rows: h.lines, GapRows: h.gaps}
		d.Missing, d.Excess = least[w.SID]-min(least[w.SID], h.lines), h.lines-min(d.Lines, h.lines)
		r.Streams = append(r.Streams, d)
	}
	for sid, h := range have { // that the journal does not know
		r.Streams = append(r.Streams, Difference{SID: sid, Rows: h.lines, GapRows: h.gaps, Excess: h.lines})
	}
	slices.SortFunc(r.Streams, func(a, b Difference) int { return strings.Compare(a.SID, b.SID) })
	_, err = os.Lstat(s.under("database/" + deletedFile))
	r.Deleted = err == nil || s.dropped.Load() > 0
	return r, nil
}
