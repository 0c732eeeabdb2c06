package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// A document's id holds its stream's number and its seq.
const (
	seqBits   = 40
	maxSeq    = 1<<seqBits - 1
	maxStream = 1<<23 - 1
)

// insertRows is the number of rows of one INSERT.
const insertRows = 64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func documentID(stream int64, seq uint64) int64 { return stream<<seqBits | int64(seq) }

func checkRange(batches []receiver.Batch) error {
	for i := range batches {
		b := &batches[i]
		first := b.Seq
		if b.Gap != nil {
			first = b.Gap.Seq
		}
		if end := b.End(); first < 1 || first > maxSeq || end < first || end > maxSeq+1 {
			return &receiver.RefusedError{Reason: fmt.Sprintf("seq %d to %d is outside of what this store can number, 1 to %d", first, end-1, uint64(maxSeq))}
		}
	}
	return nil
}

// put stores the batches of one stream and moves its cursor.
func (w *writer) put(batches []receiver.Batch) ([]receiver.Result, error) {
	last := &batches[len(batches)-1]
	stream, err := w.stream(last.SID)
	if err != nil {
		return nil, err
	}
	results := make([]receiver.Result, len(batches))
	var cursor uint64
	documents, newest := 0, int64(0)
	for i := range batches {
		b := &batches[i]
		cursor = max(cursor, b.End())
		if b.Gap != nil {
			results[i], err = w.putGap(stream, b)
		} else {
			results[i], err = w.putLines(stream, b)
			documents += results[i].New
			newest = max(newest, b.At.UnixMilli())
		}
		if err != nil {
			return nil, err
		}
	}
	return results, w.exec(`UPDATE streams SET host = ?, cursor = max(cursor, ?),
		documents = documents + ?, newest = max(newest, ?) WHERE number = ?`,
		last.Host, int64(cursor), documents, newest, stream)
}

// stream gives the number of a stream, which it draws for a new one.
func (w *writer) stream(sid string) (int64, error) {
	if n, ok := w.streams[sid]; ok {
		return n, nil
	}
	n, err := w.lookUp(sid)
	if errors.Is(err, sql.ErrNoRows) {
		if err := w.exec("INSERT INTO streams (sid, host) VALUES (?, '')", sid); err != nil {
			return 0, err
		}
		n, err = w.lookUp(sid)
	}
	if err != nil {
		return 0, err
	}
	if n > maxStream {
		return 0, errTooManyStreams
	}
	w.streams[sid] = n
	return n, nil
}

func (w *writer) lookUp(sid string) (n int64, err error) {
	s, err := w.stmt("SELECT number FROM streams WHERE sid = ?")
	if err != nil {
		return 0, err
	}
	err = s.QueryRow(sid).Scan(&n)
	return n, err
}

func (w *writer) putGap(stream int64, b *receiver.Batch) (receiver.Result, error) {
	g := b.Gap
	n, err := w.execN(`INSERT INTO gaps (id, stream, seq, n, why, maybe, at, oldest, newest, host)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		handshake.GapID(b.SID, g.Seq, g.N), stream, int64(g.Seq), int64(g.N), g.Why, g.Maybe, g.At, g.From, g.To, b.Host)
	return receiver.Result{New: int(n), Dup: 1 - int(n)}, err
}

// putLines stores the lines of a batch that are not there yet. Those that are
// must be the same.
func (w *writer) putLines(stream int64, b *receiver.Batch) (receiver.Result, error) {
	first := documentID(stream, b.Seq)
	var there []int // indices of the lines that are there already
	err := w.each("SELECT id, crc FROM documents WHERE id BETWEEN ? AND ? ORDER BY id",
		[]any{first, first + int64(len(b.Lines)) - 1},
		func(scan func(...any) error) error {
			var id, crc int64
			if err := scan(&id, &crc); err != nil {
				return err
			}
			i := int(id - first)
			if uint32(crc) != crc32.Checksum(b.Lines[i], castagnoli) {
				return &receiver.DivergedError{SID: b.SID, Seq: b.Seq + uint64(i)}
			}
			there = append(there, i)
			return nil
		})
	if err != nil {
		return receiver.Result{}, err
	}
	from := 0
	for _, i := range append(there, len(b.Lines)) {
		if err := w.insert(b, first, from, i); err != nil {
			return receiver.Result{}, err
		}
		from = i + 1
	}
	return receiver.Result{New: len(b.Lines) - len(there), Dup: len(there)}, nil
}

// insert stores the lines from up to end of the batch whose first document has
// the id base, adds them to their run and lists them as not yet indexed.
func (w *writer) insert(b *receiver.Batch, base int64, from, end int) error {
	if from == end {
		return nil
	}
	at := b.At.UnixMilli()
	for i := from; i < end; i += insertRows {
		lines := b.Lines[i:min(i+insertRows, end)]
		w.args = append(w.args[:0], base+int64(i), at, b.Host)
		for _, line := range lines {
			w.args = append(w.args, crc32.Checksum(line, castagnoli), column(line))
		}
		if err := w.exec(insertQueries[len(lines)](), w.args...); err != nil {
			return err
		}
	}
	added := span{base + int64(from), base + int64(end) - 1}
	if err := w.extendRun(added, at/minute); err != nil {
		return err
	}
	return w.exec("INSERT INTO unindexed (first, last) VALUES (?, ?)", added.first, added.last)
}

// minute is the time of a run, in milliseconds.
const minute = 60_000

// extendRun adds documents to the run that ends right before them, if it is of
// their minute, and else begins one.
func (w *writer) extendRun(added span, at int64) error {
	n, err := w.execN(`UPDATE runs SET last = ? WHERE last = ? AND minute = ?
		AND first = (SELECT max(first) FROM runs WHERE first < ?)`, added.last, added.first-1, at, added.first)
	if err != nil || n > 0 {
		return err
	}
	return w.exec("INSERT INTO runs (first, last, minute) VALUES (?, ?, ?)", added.first, added.last, at)
}

// insertQueries[n] stores n documents with ids in sequence, of one time and host.
// Parameters cost more than rows do: those that all have in common come once,
// and none has a number, for then the driver would look each up by its name.
var insertQueries = rows("WITH common (id, at, host) AS (VALUES (?,?,?)), lines (n, crc, line) AS (VALUES ", "(%d,?,?)",
	`) INSERT INTO documents (id, at, host, crc, line)
	SELECT common.id + n, at, host, crc, line FROM lines CROSS JOIN common`)

// rows gives the texts of a statement for every number of rows up to insertRows,
// each made when it is first asked for. Each row is row with its number.
func rows(before, row, after string) (queries [insertRows + 1]func() string) {
	for n := range queries {
		queries[n] = sync.OnceValue(func() string {
			rows := make([]string, n)
			for i := range rows {
				rows[i] = strings.Replace(row, "%d", strconv.Itoa(i), 1)
			}
			return before + strings.Join(rows, ",") + after
		})
	}
	return queries
}

// column is a line as a column. The driver would give back any bytes of a TEXT,
// but SQL functions and the sqlite3 shell stop at its first NUL and expect UTF-8.
// The string is in the memory of the line: the driver copies it at once.
func column(line []byte) any {
	if bytes.IndexByte(line, 0) < 0 && utf8.Valid(line) {
		return unsafe.String(unsafe.SliceData(line), len(line))
	}
	return line
}
