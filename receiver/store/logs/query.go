package logs

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"wsrelay/receiver/store/journal"
	"wsrelay/receiver/store/logs/row"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// The fields of a row that are ours.
const (
	fieldSID     = "wsrelay.sid"
	fieldSeq     = "wsrelay.seq"
	fieldCRC     = "wsrelay.crc"
	fieldSegment = "wsrelay.segment"
	fieldGap     = "wsrelay.gap"
	fieldLine    = "wsrelay.line"
	fieldBlob    = "wsrelay.blob" // where in the blobs the line is
)

// Count is how many rows there are with this segment's name.
func (d *database) Count(ctx context.Context, segment string) (n uint64, err error) {
	err = d.query(ctx, equals(fieldSegment, segment)+" | stats count() as n", func(r columns) error {
		n, err = r.number("n")
		return err
	}, "n")
	return n, err
}

// Each calls f with each row of this segment; of all segments if it is empty.
func (d *database) Each(ctx context.Context, segment string, f func(journal.ID)) error {
	q := equals(fieldSegment, segment)
	if segment == "" {
		q = strconv.Quote(fieldSID) + ":*"
	}
	return d.query(ctx, q, func(r columns) error {
		seq, err := row.Seq(r[fieldSeq])
		id := journal.ID{SID: string([]byte(r[fieldSID])), Seq: seq}
		if err == nil && r[fieldGap] != "" {
			id.Gap, err = r.number(fieldGap)
		}
		if err == nil {
			f(id)
		}
		return err
	}, fieldSID, fieldSeq, fieldGap)
}

// Sums calls f with each line of the stream from seq up to end that is there, and
// the CRC-32C of its bytes. A line is at most once there.
func (d *database) Sums(ctx context.Context, sid string, seq, end uint64, f func(seq uint64, crc uint32)) error {
	q := fmt.Sprintf("%s %q:range[%s, %s] !%q:*", equals(fieldSID, sid), fieldSeq, row.SeqValue(seq), row.SeqValue(end),
		fieldGap)
	return d.query(ctx, q, func(r columns) error {
		n, err := row.Seq(r[fieldSeq])
		if err != nil || n < seq || n >= end { // the engine compares as floating point numbers
			return err
		}
		crc, err := r.number(fieldCRC)
		if err == nil {
			f(n, uint32(crc))
		}
		return err
	}, fieldSeq, fieldCRC)
}

// stream is what the database holds of one.
type stream struct{ lines, gaps uint64 }

func (d *database) streams(ctx context.Context) (map[string]stream, error) {
	all := map[string]stream{}
	q := fmt.Sprintf("%q:* | stats by (%q) count() as n, count(%q) as gaps", fieldSID, fieldSID, fieldGap)
	err := d.query(ctx, q, func(r columns) error {
		n, err := r.number("n")
		if err != nil {
			return err
		}
		gaps, err := r.number("gaps")
		all[string([]byte(r[fieldSID]))] = stream{n - gaps, gaps}
		return err
	}, fieldSID, "n", "gaps")
	return all, err
}

// columns are those of one row; the values are the engine's.
type columns map[string]string

func (r columns) number(name string) (uint64, error) {
	n, err := strconv.ParseUint(r[name], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("a row has no number in %s: %w", name, err)
	}
	return n, nil
}

func equals(field, value string) string { return strconv.Quote(field) + ":=" + strconv.Quote(value) }

// query calls f with each row that matches, one at a time. It sees all that was
// added before.
func (d *database) query(ctx context.Context, q string, f func(columns) error, names ...string) error {
	if err := d.see(); err != nil {
		return err
	}
	quoted := make([]string, len(names))
	for i, c := range names {
		quoted[i] = strconv.Quote(c)
	}
	r := columns{}
	return d.engine.query(ctx, q+" | fields "+strings.Join(quoted, ", "), func(b *logstorage.DataBlock) error {
		cols := b.GetColumns(false)
		for i := range b.RowsCount() {
			for _, c := range cols {
				r[c.Name] = c.Values[i]
			}
			if err := f(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// see makes what was added visible for queries.
func (d *database) see() error {
	d.mu.Lock()
	unseen := d.unseen
	d.unseen = false
	d.mu.Unlock()
	if !unseen {
		return nil
	}
	return d.engine.flush()
}
