package logs

import (
	"context"
	"fmt"

	"wsrelay/receiver/store/logs/row"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// fieldBlob says where in the blobs the line is.
const fieldBlob = "wsrelay.blob"

// stream is what the database holds of one.
type stream struct{ lines, gaps uint64 }

func (d *database) streams(ctx context.Context) (map[string]stream, error) {
	all := map[string]stream{}
	q := fmt.Sprintf("%q:* | stats by (%q) count() as n, count(%q) as gaps", row.FieldSID, row.FieldSID, row.FieldGap)
	err := d.query(ctx, q, func(r map[string]string) error {
		n, err := number(r, "n")
		if err != nil {
			return err
		}
		gaps, err := number(r, "gaps")
		all[string([]byte(r[row.FieldSID]))] = stream{n - gaps, gaps}
		return err
	})
	return all, err
}

// query calls f with the fields of each row that matches, one at a time; the values are the
// library's, and valid only within the call. It sees all that was added before.
func (d *database) query(ctx context.Context, q string, f func(map[string]string) error) error {
	if err := d.see(); err != nil {
		return err
	}
	r := map[string]string{}
	return d.library.query(ctx, q, func(b *logstorage.DataBlock) error {
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
	d.seeing.Lock() // who comes second waits, too
	defer d.seeing.Unlock()
	d.mu.Lock()
	unseen := d.unseen
	d.unseen = false
	d.mu.Unlock()
	if !unseen {
		return nil
	}
	return d.library.flush()
}
