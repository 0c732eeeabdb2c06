package network

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"testing"

	"wsrelay/test/harness"
)

// life is what one keeper's pipe carried: from the first line to the last of
// which at least a byte was written.
type life struct {
	first, end uint64
	promised   uint64 // every line below was on disk, or in the spool of a keeper that lives
}

// verdict is what the file says about the lines of all lives.
type verdict struct {
	Stored  uint64
	Cut     uint64 // at the end of a life, above what was promised: allowed
	Lost    uint64
	Doubled uint64 // or out of order
	Altered uint64
}

func (v verdict) ok() bool { return v.Lost+v.Doubled+v.Altered == 0 }

func (v verdict) String() string {
	return fmt.Sprintf("%d stored, %d lost, %d doubled or out of order, %d altered; %d cut with their keeper", v.Stored,
		v.Lost, v.Doubled, v.Altered, v.Cut)
}

// judge compares what was stored with the lives, which follow one another.
func judge(stored io.Reader, lives []life) (verdict, error) {
	var v verdict
	next, end := uint64(0), lives[len(lives)-1].end
	lines := bufio.NewReaderSize(stored, 1<<20)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case err == io.EOF && len(line) == 0:
			v.missing(lives, next, end)
			return v, nil
		case err != nil && err != io.EOF && err != bufio.ErrBufferFull: //nolint:errorlint // as bufio gives it
			return v, err
		}
		n, ok := harness.NumberOf(bytes.TrimSuffix(line, []byte("\n")))
		switch {
		case !ok || err != nil || n >= end:
			v.Altered++
		case n < next:
			v.Doubled++
		default:
			v.missing(lives, next, n)
			v.Stored++
			next = n + 1
		}
	}
}

// missing judges the lines from from to to, which are not there.
func (v *verdict) missing(lives []life, from, to uint64) {
	for _, l := range lives {
		a, b := max(from, l.first), min(to, l.end)
		if a >= b {
			continue
		}
		promised := l.promised
		if b < l.end { // a line of this life follows: this is not its end
			promised = l.end
		}
		lost := min(max(a, promised), b) - a
		v.Lost += lost
		v.Cut += b - a - lost
	}
}

func TestJudge_SeesEachFault(t *testing.T) {
	lives := []life{{first: 0, end: 100, promised: 50}, {first: 100, end: 200, promised: 200}}
	pieces := func(ranges ...uint64) []byte {
		var b []byte
		for k := 0; k < len(ranges); k += 2 {
			for n := ranges[k]; n < ranges[k+1]; n++ {
				b = harness.AppendLine(b, n)
			}
		}
		return b
	}
	damaged := pieces(0, 200)
	damaged[40]++
	for name, tt := range map[string]struct {
		file []byte
		want verdict
	}{
		"all":                    {pieces(0, 200), verdict{Stored: 200}},
		"the end of a life":      {pieces(0, 60, 100, 200), verdict{Stored: 160, Cut: 40}},
		"more than its end":      {pieces(0, 40, 100, 200), verdict{Stored: 140, Cut: 50, Lost: 10}},
		"before the end":         {pieces(0, 60, 70, 200), verdict{Stored: 190, Lost: 10}},
		"the end of the last":    {pieces(0, 199), verdict{Stored: 199, Lost: 1}},
		"the first":              {pieces(1, 200), verdict{Stored: 199, Lost: 1}},
		"twice":                  {pieces(0, 150, 149, 200), verdict{Stored: 200, Doubled: 1}},
		"out of order":           {pieces(0, 150, 160, 200, 150, 160), verdict{Stored: 190, Lost: 10, Doubled: 10}},
		"one changed":            {damaged, verdict{Stored: 199, Lost: 1, Altered: 1}},
		"a line without its end": {pieces(0, 200)[:len(pieces(0, 200))-1], verdict{Stored: 199, Lost: 1, Altered: 1}},
		"nobody wrote it":        {pieces(0, 201), verdict{Stored: 200, Altered: 1}},
	} {
		got, err := judge(bytes.NewReader(tt.file), lives)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, tt.want)
		}
	}
}
