package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"wsrelay/internal/fsutil"
	"wsrelay/receiver/store/journal"
	"wsrelay/receiver/store/logs/row"
)

// Rows answers the journal's questions about the rows of a database, by LogsQL, and keeps its
// mark beside them.
type Rows struct {
	Dir string // of the mark

	// Query calls f with the fields of each row that q finds, which are valid only within the call.
	Query func(ctx context.Context, q string, f func(map[string]string) error) error
}

// Count implements journal.Database.
func (d *Rows) Count(ctx context.Context, segment string) (n uint64, err error) {
	q := equals(row.FieldSegment, segment) + " | stats count() as n"
	err = d.Query(ctx, q, func(r map[string]string) error {
		n, err = number(r, "n")
		return err
	})
	return n, err
}

// Each implements journal.Database.
func (d *Rows) Each(ctx context.Context, segment string, f func(journal.ID)) error {
	q := strconv.Quote(row.FieldSID) + ":*"
	if segment != "" {
		q = equals(row.FieldSegment, segment)
	}
	q += fmt.Sprintf(" | fields %q, %q, %q", row.FieldSID, row.FieldSeq, row.FieldGap)
	return d.Query(ctx, q, func(r map[string]string) error {
		seq, err := row.Seq(r[row.FieldSeq])
		id := journal.ID{SID: strings.Clone(r[row.FieldSID]), Seq: seq}
		if err == nil && r[row.FieldGap] != "" {
			id.Gap, err = number(r, row.FieldGap)
		}
		if err == nil {
			f(id)
		}
		return err
	})
}

// Sums implements journal.Database.
func (d *Rows) Sums(ctx context.Context, sid string, seq, end uint64, f func(seq uint64, crc uint32)) error {
	q := fmt.Sprintf("%s %q:range[%s, %s] !%q:* | fields %q, %q", equals(row.FieldSID, sid), row.FieldSeq,
		row.SeqValue(seq), row.SeqValue(end), row.FieldGap, row.FieldSeq, row.FieldCRC)
	return d.Query(ctx, q, func(r map[string]string) error {
		n, err := row.Seq(r[row.FieldSeq])
		if err != nil || n < seq || n >= end { // the database compares as floating point numbers
			return err
		}
		crc, err := number(r, row.FieldCRC)
		if err == nil {
			f(n, uint32(crc))
		}
		return err
	})
}

func number(r map[string]string, name string) (uint64, error) {
	n, err := strconv.ParseUint(r[name], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("a row has no number in %s: %w", name, err)
	}
	return n, nil
}

func equals(field, value string) string { return strconv.Quote(field) + ":=" + strconv.Quote(value) }

// Mark implements journal.Database.
func (d *Rows) Mark() (string, error) {
	b, err := os.ReadFile(filepath.Join(d.Dir, "MARK"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// SetMark implements journal.Database.
func (d *Rows) SetMark(mark string) error {
	return fsutil.ReplaceFile(filepath.Join(d.Dir, "MARK"), []byte(mark))
}
