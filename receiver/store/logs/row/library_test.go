package row

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// skeletons is a table in memory.
type skeletons struct {
	mu      sync.Mutex
	entries []string
	numbers map[string]uint32
	limit   int // entries; 0: none
}

func (s *skeletons) Number(entry []byte) (uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.numbers[string(entry)]; ok {
		return n, true
	}
	if s.limit > 0 && len(s.entries) >= s.limit {
		return 0, false
	}
	if s.numbers == nil {
		s.numbers = map[string]uint32{}
	}
	n := uint32(len(s.entries))
	s.entries, s.numbers[string(entry)] = append(s.entries, string(entry)), n
	return n, true
}

func (s *skeletons) Skeleton(n uint32) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(n) >= len(s.entries) {
		return nil, fmt.Errorf("no skeleton %d", n)
	}
	return []byte(s.entries[n]), nil
}

func (s *skeletons) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

func newTable(t testing.TB, o Options) *Table {
	t.Helper()
	table, err := Open(&skeletons{}, o)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

const (
	testSID     = "0123456789abcdef"
	testSegment = "k3v9-17"
)

var testAt = time.Date(2026, 3, 14, 3, 0, 0, 123456789, time.UTC)

func lineOf(seq uint64, text string) *Line {
	return &Line{SID: testSID, Host: "relay1", Segment: testSegment, Seq: seq, At: testAt, Text: []byte(text)}
}

// library is the real storage with rows in it.
type library struct {
	*logstorage.Storage
	t    testing.TB
	dir  string
	rows *logstorage.LogRows
}

func openLibrary(t testing.TB) *library {
	t.Helper()
	dir := t.TempDir()
	s := logstorage.MustOpenStorage(dir, &logstorage.StorageConfig{
		Retention: 100 * 365 * 24 * time.Hour, FutureRetention: 100 * 365 * 24 * time.Hour, FlushInterval: time.Hour,
	})
	t.Cleanup(s.MustClose)
	return &library{s, t, dir, logstorage.GetLogRows(nil, nil, nil, nil, "")}
}

func (e *library) add(r *Row) {
	e.t.Helper()
	n := e.rows.RowsCount()
	e.rows.MustAdd(logstorage.TenantID{}, r.Time.UnixNano(), r.Fields, r.Stream)
	if e.rows.RowsCount() != n+1 {
		e.t.Errorf("the library refuses a row: %.300v", r.Fields)
	}
	if e.rows.NeedFlush() {
		e.flush()
	}
}

func (e *library) flush() {
	e.MustAddRows(e.rows)
	e.rows.ResetKeepSettings()
}

// settle makes everything that was added searchable, as it is in parts on disk.
func (e *library) settle() {
	e.flush()
	e.DebugFlush()
	e.MustForceMerge("")
}

// query calls f with the fields of each row.
func (e *library) query(text string, f func(fields []logstorage.Field)) error {
	q, err := logstorage.ParseQueryAtTimestamp(text, testAt.UnixNano())
	if err != nil {
		return err
	}
	var mu sync.Mutex
	stats := &logstorage.QueryStats{}
	ctx := logstorage.NewQueryContext(context.Background(), stats, []logstorage.TenantID{{}}, q, false, nil)
	return e.RunQuery(ctx, func(_ uint, block *logstorage.DataBlock) {
		mu.Lock()
		defer mu.Unlock()
		columns := block.GetColumns(false)
		for i := range block.RowsCount() {
			var fields []logstorage.Field
			for _, c := range columns {
				if c.Values[i] != "" {
					fields = append(fields, logstorage.Field{
						Name:  strings.Clone(c.Name),
						Value: strings.Clone(c.Values[i]),
					})
				}
			}
			f(fields)
		}
	})
}

// taken gives the lines of the rows that a query finds, by their numbers.
func (e *library) taken(c *Coder, query string, blobs map[string]string) map[string]string {
	e.t.Helper()
	lines := map[string]string{}
	err := e.query(query, func(fields []logstorage.Field) {
		seq := Value(fields, FieldSeq)
		line, err := c.Text(fields, func() ([]byte, error) {
			blob, ok := blobs[seq]
			if !ok {
				return nil, errors.New("no blob")
			}
			return []byte(blob), nil
		})
		if err != nil {
			e.t.Errorf("seq %s: %v", seq, err)
		}
		if _, twice := lines[seq]; twice {
			e.t.Errorf("seq %s is there twice", seq)
		}
		lines[seq] = string(line)
	})
	if err != nil {
		e.t.Errorf("query %.200s: %v", query, err)
	}
	return lines
}

// put adds the rows of lines, numbered from 1, and gives the blobs.
func (e *library) put(c *Coder, lines []string) (blobs map[string]string) {
	blobs = map[string]string{}
	var r Row
	for i, text := range lines {
		c.Row(&r, lineOf(uint64(i+1), text))
		checkRow(e.t, &r)
		e.add(&r)
		if r.Whole {
			blobs[SeqValue(uint64(i+1))] = text
		}
	}
	e.settle()
	return blobs
}

// checkRow looks at what the library demands of a row.
func checkRow(t testing.TB, r *Row) {
	t.Helper()
	names := map[string]bool{}
	for i, f := range r.Fields {
		switch {
		case f.Value == "", f.Name == "", len(f.Name) > maxName, f.Name == "_time", f.Name == "_stream", f.Name == "_stream_id", names[f.Name]:
			t.Errorf("the row has a field %.200q: %.200q", f.Name, f.Value)
		case i < r.Stream && (len(f.Value) > maxStream || f.Name != "host" && f.Name != "program"):
			t.Errorf("the row has a stream field %.200q: %.200q", f.Name, f.Value)
		}
		if strings.ToValidUTF8(f.Name+f.Value, "") != f.Name+f.Value {
			t.Errorf("field %.200q is not UTF-8: %.200q", f.Name, f.Value)
		}
		names[f.Name] = true
	}
	if n := logstorage.EstimatedJSONRowLen(r.Fields); n > maxRow {
		t.Errorf("the row has %d bytes", n)
	}
	if len(r.Fields) > maxNames+60 {
		t.Errorf("the row has %d fields", len(r.Fields))
	}
}
