package sqlite

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"
)

func TestParseQuery_SaysWhatIsWrongAndWhere(t *testing.T) {
	for _, tc := range []struct {
		query string
		at    int
		want  string
	}{
		{`(a OR b`, 1, `"(" is never closed`},
		{`a (b (c)`, 3, `"(" is never closed`},
		{`a ) b`, 3, `")" without "("`},
		{`a "b c`, 3, "never closed"},
		{`"größer" "b`, 10, "never closed"},
		{`OR b`, 1, "before it"},
		{`a OR`, 3, "after it"},
		{`a OR - b`, 3, ""},
		{`a AND`, 3, "after it"},
		{`AND b`, 1, "before it"},
		{`a NOT`, 3, "nothing to exclude"},
		{`a -( )`, 3, "no letter or digit"},
		{`*foo`, 1, "only at its end"},
		{`ti*me`, 3, "only at its end"},
		{`x from:yesterday`, 8, `"yesterday" is not a time`},
		{`to:1800-01-01`, 4, "is not a time"},
		{`(from:-1h x)`, 2, "whole query"},
		{`NOT to:-1h`, 5, "whole query"},
		{`uid:123`, 5, "not a UID"},
		{`sid:XYZ`, 5, "stream's id"},
		{`status:(404 OR 500)`, 8, "(status:a OR status:b)"},
		{`path:=/a*`, 7, "path:/a*"},
		{strings.Repeat("(", 40) + "a" + strings.Repeat(")", 40), 33, "nested too deep"},
		{strings.Repeat("NOT ", 40) + "a", 129, "nested too deep"},
		{strings.Repeat("a", 4097), 4097, "more than 4096"},
	} {
		_, err := ParseQuery(tc.query, noon)
		var e *QueryError
		if tc.want == "" {
			if err != nil {
				t.Errorf("%q: got %v", tc.query, err)
			}
			continue
		}
		if !errors.As(err, &e) || e.At != tc.at || !strings.Contains(e.Problem, tc.want) {
			t.Errorf("%.40q: got %v, want %q at %d", tc.query, err, tc.want, tc.at)
		}
	}
}

func TestParseQuery_TakesTimesTogether(t *testing.T) {
	q := query(t, `from:-2h from:-1h30m to:now to:2026-03-14 a OR b`)
	if want := noon.Add(-90 * time.Minute); !q.From.Equal(want) {
		t.Errorf("from: got %v, want %v", q.From, want)
	}
	if want := noon.Truncate(24 * time.Hour); !q.To.Equal(want) {
		t.Errorf("to: got %v, want %v", q.To, want)
	}
	if _, ok := q.root.(or); !ok {
		t.Errorf("got %#v, want a or b", q.root)
	}
}

func TestParseQuery_LeavesPastedTextAlone(t *testing.T) {
	line := `GET https://example.org/a:b?c=d C:\new main() std::vector 12:30 error: [x] a(b) -- 100% http: //`
	d := document{sid: sidA, host: "web1", line: []byte(line)}
	for _, text := range append(strings.Fields(line), line) {
		if q := query(t, text); !q.matches(&d) {
			t.Errorf("%q does not find %q", text, line)
		}
	}
}

func TestParseTime_ReadsWhatPeopleWrite(t *testing.T) {
	for text, want := range map[string]time.Time{
		"now":                       noon,
		"-90s":                      noon.Add(-90 * time.Second),
		"-1h30m":                    noon.Add(-90 * time.Minute),
		"-2d":                       noon.AddDate(0, 0, -2),
		"-1w":                       noon.AddDate(0, 0, -7),
		"2026-03-14":                noon.Add(-12 * time.Hour),
		"2026-03-14T12:00":          noon,
		"2026-03-14 12:00:00":       noon,
		"2026-03-14T13:00:00+01:00": noon,
		"2026-03-14T12:00:00.5Z":    noon.Add(time.Second / 2),
	} {
		if got, err := ParseTime(text, noon); err != nil || !got.Equal(want) {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-", "1h", "-1", "-h", "-1y", "-0s", "-99999999999999w", "-60w99999d", "12:00", "0001-01-01", "2200-01-01", "-1h-1m"} {
		if got, err := ParseTime(text, noon); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestRetain_ReadsAgeAndSize(t *testing.T) {
	for text, want := range map[string]Retain{
		"30d":       {Age: 30 * 24 * time.Hour},
		"50GiB":     {Bytes: 50 << 30},
		"36h,10 GB": {Age: 36 * time.Hour, Bytes: 10e9},
		"1MiB,1w":   {Age: 7 * 24 * time.Hour, Bytes: 1 << 20},
	} {
		var got Retain
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0d", "30", "30d,30d", "1kB", "1GiB,2GiB", "30d,", "forever", "-1d", "99999999999EiB"} {
		var got Retain
		if err := got.UnmarshalText([]byte(text)); err == nil || got != (Retain{}) {
			t.Errorf("%q: got %+v, %v, want an error", text, got, err)
		}
	}
}

// syslog-ng writes numbers that are too large as inf.
func TestFields_OfALineWithANumberThatIsNotFinite(t *testing.T) {
	line := []byte(`{"fields":{"n":-inf,"big":12345678901234567890123,"ok":1}}`)
	if !IsObject(line) {
		t.Fatal("it is no object")
	}
	got := map[string]string{}
	Fields(line, func(f Field) bool {
		got[f.Name] = f.Value
		return true
	})
	if want := (map[string]string{"fields.n": "-inf", "fields.big": "12345678901234567890123", "fields.ok": "1"}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
