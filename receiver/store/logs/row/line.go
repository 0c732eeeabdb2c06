package row

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// ErrGap says that a row is a gap's.
var ErrGap = errors.New("the row is a gap: it has no line")

// Text gives the line of a row, of its fields in any order. blob gives the bytes of
// a line whose row is not whole.
func (c *Coder) Text(fields []logstorage.Field, blob func() ([]byte, error)) (line []byte, err error) {
	known := newLookup(fields)
	get := known.get
	number, raw := get(fieldSkeleton), get(FieldLine)
	switch {
	case get(FieldGap) != "":
		return nil, ErrGap
	case get(fieldSize) != "":
		line, err = blob()
	case number != "":
		line, err = c.build(number, &known)
	case raw != "":
		line = []byte(strings.TrimPrefix(raw, guard))
	default:
		line = []byte(get("_msg"))
	}
	if err != nil {
		return nil, err
	}
	if was := get(fieldBytes); was != "" {
		if line, err = encodeInvalid(line, was); err != nil {
			return nil, fmt.Errorf("field %s: %w", fieldBytes, err)
		}
	}
	if sum := get(FieldCRC); sum != "" && sum != strconv.FormatUint(uint64(crc32.Checksum(line, castagnoli)), 10) {
		return nil, fmt.Errorf("stream %s, seq %s: the line does not have the checksum %s", get(FieldSID),
			get(FieldSeq), sum)
	}
	return line, nil
}

func (c *Coder) build(number string, fields *lookup) ([]byte, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(number, string(skeletonMark)), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("field %s: %w", fieldSkeleton, err)
	}
	s, err := c.table.shape(uint32(n))
	if err != nil {
		return nil, err
	}
	return s.build(nil, fields), nil
}

// fewFields are searched one after the other.
const fewFields = 40

// lookup gives the values of fields by their names. It is fast if they are asked for
// in their order.
type lookup struct {
	fields []logstorage.Field
	next   int
	index  map[string]string // of many fields
}

func newLookup(fields []logstorage.Field) lookup {
	l := lookup{fields: fields}
	if len(fields) > fewFields {
		l.index = make(map[string]string, len(fields))
		for _, f := range fields {
			l.index[f.Name] = f.Value
		}
	}
	return l
}

// get gives the value of a field, empty if there is none.
func (l *lookup) get(name string) string {
	if l.index != nil {
		return l.index[name]
	}
	for range l.fields {
		f := &l.fields[l.next]
		if l.next++; l.next == len(l.fields) {
			l.next = 0
		}
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}
