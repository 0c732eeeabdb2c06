package row

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"wsrelay/handshake"
)

// clone is a row that does not change with the next one.
func clone(r *Row) *Row {
	c := *r
	c.Fields = slices.Clone(r.Fields)
	for i, f := range c.Fields {
		c.Fields[i] = logstorage.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)}
	}
	return &c
}

func equal(a, b *Row) bool {
	return a.Time.Equal(b.Time) && a.Stream == b.Stream && a.Whole == b.Whole && slices.Equal(a.Fields, b.Fields)
}

// checkLine demands all that a row promises of one line.
func checkLine(t *testing.T, c *Coder, line string) {
	t.Helper()
	l := lineOf(7, line)
	var r Row
	c.Row(&r, l)
	if string(l.Text) != line {
		t.Fatalf("Row changes the line %.300q", line)
	}
	checkRow(t, &r)
	first := clone(&r)
	c.Row(&r, l)
	if !equal(first, &r) {
		t.Errorf("the row of %.300q is another the second time:\n%.500q\n%.500q", line, first.Fields, r.Fields)
	}
	if r.Time.After(testAt.Add(maxAhead)) || r.Time.Before(testAt.Add(-30*24*time.Hour)) {
		t.Errorf("the row of %.300q has the time %s", line, r.Time)
	}
	slices.Reverse(first.Fields)
	got, err := c.Text(first.Fields, func() ([]byte, error) { return []byte(line), nil })
	if err != nil || string(got) != line {
		t.Errorf("the line is %.300q, %v; want %.300q", got, err, line)
	}
}

func FuzzRow(f *testing.F) {
	for _, k := range kinds() {
		if len(k.line) < 4096 {
			f.Add([]byte(k.line))
		}
	}
	f.Add([]byte("\xef\x1b(\x94 a sequence that ends inside a character"))
	c := newTable(f, Options{}).Coder()
	f.Fuzz(func(t *testing.T, line []byte) { checkLine(t, c, string(line)) })
}

func TestRow_OfEachKindIsWithinBoundsAndTheSameTwice(t *testing.T) {
	c := newTable(t, Options{}).Coder()
	for _, k := range kinds() {
		checkLine(t, c, k.line)
	}
}

// TestRow_OfMutatedLines cuts, joins and changes lines at random places.
func TestRow_OfMutatedLines(t *testing.T) {
	c, r := newTable(t, Options{}).Coder(), rand.New(rand.NewPCG(3, 4))
	var lines []string
	for _, k := range kinds() {
		if len(k.line) > 0 && len(k.line) < 2000 {
			lines = append(lines, k.line)
		}
	}
	for range 20_000 {
		a, b := []byte(lines[r.IntN(len(lines))]), lines[r.IntN(len(lines))]
		a = append(a[:r.IntN(len(a)+1)], b[r.IntN(len(b)):]...)
		for range r.IntN(4) {
			if len(a) > 0 {
				a[r.IntN(len(a))] = "\x00\\\"{}[],:\x1b\xff 0.-_u<"[r.IntN(18)]
			}
		}
		checkLine(t, c, string(a))
	}
}

// TestValues_ThatTheLibraryChangesComeBack puts values into columns that the library
// keeps as numbers, addresses and times.
func TestValues_ThatTheLibraryChangesComeBack(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	floats := func() string {
		s := fmt.Sprintf("%d.%0*d", r.IntN(1000)*r.IntN(2), 1+r.IntN(18), r.Uint64N(1e18))
		if i := 2 + r.IntN(18); len(s) > i && s[len(s[:i])-1] != '.' {
			s = s[:i]
		}
		return []string{"", "-"}[r.IntN(2)] + s
	}
	columns := map[string]func() string{
		"floats":     floats,
		"decimals":   func() string { return fmt.Sprintf("%.*f", 1+r.IntN(9), r.Float64()) },
		"shortest":   func() string { return fmt.Sprint(float64(r.IntN(1000))/10 + .1) },
		"doubles":    func() string { return fmt.Sprint(r.Float64()) },
		"integers":   func() string { return strconv.Itoa(r.IntN(2000) - 1000) },
		"zeros":      func() string { return []string{"0", "-0", "00", "-00", "0_0", "-0_1"}[r.IntN(6)] },
		"underlines": func() string { return strings.Replace(strconv.Itoa(10000+r.IntN(9000)), "0", "_", 1) },
		"underfloat": func() string { return fmt.Sprintf("1_%d.5", r.IntN(100)) },
		"addresses":  func() string { return fmt.Sprintf("%d.%d.%d.1", r.IntN(256), r.IntN(256), r.IntN(256)) },
		"zeroed":     func() string { return fmt.Sprintf("%03d.%02d.1.1", r.IntN(256), r.IntN(100)) },
		"lettered":   func() string { return fmt.Sprintf("1%c.2.3.%d", 'a'+r.IntN(26), r.IntN(256)) },
		"times": func() string {
			return time.UnixMilli(r.Int64N(1e13)).UTC().Format([]string{
				isoMillis,
				"2006-01-02 15:04:05.000Z",
			}[r.IntN(2)])
		},
		"wrong times": func() string { return fmt.Sprintf("2026-02-%02dT%02d:00:60.000Z", 25+r.IntN(8), r.IntN(30)) },
		"digits":      func() string { return fmt.Sprintf("%d.%d", r.IntN(3), r.IntN(100)) },
	}
	e, c := openLibrary(t), newTable(t, Options{}).Coder()
	want := map[string]string{}
	for name, value := range columns {
		for _, form := range []string{`{"a":%s}`, `{"a":"%s"}`, `%s`, "a=%s b=1"} {
			for range 300 { // each column in a stream, and thus blocks, of its own
				l := lineOf(uint64(len(want)+1), fmt.Sprintf(form, value()))
				l.Host = name + form
				var r Row
				c.Row(&r, l)
				checkRow(t, &r)
				e.add(&r)
				want[SeqValue(l.Seq)] = string(l.Text)
			}
		}
	}
	e.settle()
	got := e.taken(c, "*", nil)
	for seq, line := range want {
		if got[seq] != line {
			t.Errorf("the line is %q, want %q", got[seq], line)
		}
	}
}

// TestSkeleton_SavesTheLine: what loggers usually write needs no copy of the line.
func TestSkeleton_SavesTheLine(t *testing.T) {
	c := newTable(t, Options{}).Coder()
	for _, line := range []string{
		`{"rt":0.120,"n":0.3,"ms":12.500000,"s":"0.010","price":12.50}`,
		`{"q":"a \u003c b \u0026 c \n"}`, `{"q":"gr\u00fc\u00dfe \ud83d\ude00"}`, `{"q":"\/var\/log"}`,
		`{"q":"\u001B\u0001 x"}`, `{"q":"\"quoted\" \t"}`,
		`{"a":null,"b":"","c":{},"d":[],"e":[1, 2 ],"f":true}`, `{ "a" : "b" } `, `{"level":30,"msg":"x"}`,
		`{"level":"ERROR","msg":""}`,
		"{\"a\":\"caf\xe9\",\"b\":\"\u00e9\ufffd\"}", `{"a":{"b":{"c":"deep"}},"n":9007199254740993}`,
	} {
		var r Row
		c.Row(&r, lineOf(1, line))
		if Value(r.Fields, fieldSkeleton) == "" || Value(r.Fields, FieldLine) != "" {
			t.Errorf("%s: the row is %q", line, r.Fields)
		}
	}
}

func TestSkeleton_IsOneForTheLinesOfAProgram(t *testing.T) {
	c := newTable(t, Options{}).Coder()
	numbers := map[string]bool{}
	for _, line := range []string{
		`{"rt":0.120,"n":1,"q":"","e":null,"m":"x"}`, `{"rt":0.123,"n":-20,"q":"a","e":7,"m":""}`,
		`{"rt":12.000,"n":0,"q":"\"b\"","e":[],"m":"0"}`,
	} {
		var r Row
		c.Row(&r, lineOf(1, line))
		numbers[strings.Clone(Value(r.Fields, fieldSkeleton))] = true
	}
	if len(numbers) != 1 || numbers[""] {
		t.Errorf("the skeletons are %v", numbers)
	}
}

// TestNames_OfAStreamStayBelowTheLibrarysLimit: the library drops rows of a block with too
// many names, when it makes the block and when it merges blocks.
func TestNames_OfAStreamStayBelowTheLibrarysLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	store := &skeletons{}
	e := openLibrary(t)
	var lines []string
	for i := range 6000 {
		lines = append(lines, fmt.Sprintf(`{"key%d":"value%d","common":"c%d"}`, i, i, i))
	}
	var c *Coder
	for i, line := range lines {
		if i%1500 == 0 { // the process starts again
			table, err := Open(store, Options{})
			if err != nil {
				t.Fatal(err)
			}
			c = table.Coder()
			e.settle()
		}
		var r Row
		c.Row(&r, lineOf(uint64(i+1), line))
		checkRow(t, &r)
		e.add(&r)
	}
	e.settle()
	got := e.taken(c, "*", nil)
	for i, line := range lines {
		if got[SeqValue(uint64(i+1))] != line {
			t.Fatalf("line %d is %q, want %q", i+1, got[SeqValue(uint64(i+1))], line)
		}
	}
	for query, want := range map[string]int{"value5999": 1, "common:c5999": 1, "key17:value17": 1} {
		if n := len(e.taken(c, query, nil)); n != want {
			t.Errorf("%s finds %d rows, want %d", query, n, want)
		}
	}
}

// TestNames_AreKeptWhenTheLibraryMerges: it drops what it merges into a block of too
// many names, long after the rows were on disk.
func TestNames_AreKeptWhenTheLibraryMerges(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	e, c := openLibrary(t), newTable(t, Options{}).Coder()
	const parts, lines = 3, 900
	for n := range parts * lines {
		var r Row
		c.Row(&r, lineOf(uint64(n+1), fmt.Sprintf(`{"key%d":"value%d"}`, n, n)))
		e.add(&r)
		if (n+1)%lines == 0 {
			e.flush()
			e.DebugFlush()
		}
	}
	if n := len(e.taken(c, "*", nil)); n != parts*lines {
		t.Errorf("%d rows are there, want %d", n, parts*lines)
	}
	e.MustForceMerge("")
	if n := len(e.taken(c, "*", nil)); n != parts*lines {
		t.Errorf("%d rows are there after a merge, want %d", n, parts*lines)
	}
}

func TestTable_WithoutSpaceKeepsLinesAndWords(t *testing.T) {
	table, err := Open(&skeletons{limit: 1}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, c := openLibrary(t), table.Coder()
	lines := []string{`{"a":"one"}`, `{"a":"two","b":"three"}`, `x=1 y=2`}
	got := e.taken(c, "*", e.put(c, lines))
	for i, line := range lines {
		if got[SeqValue(uint64(i+1))] != line {
			t.Errorf("line %d is %q, want %q", i+1, got[SeqValue(uint64(i+1))], line)
		}
	}
	for query, want := range map[string]int{"a:one": 1, "a:two": 1, "three": 1, "y": 1} {
		if n := len(e.taken(c, query, nil)); n != want {
			t.Errorf("%s finds %d rows, want %d", query, n, want)
		}
	}
}

func TestTime_FarFromArrivalIsBounded(t *testing.T) {
	o := Options{MaxAge: 100 * 365 * 24 * time.Hour}
	days := func(table *Table) (list []string) {
		c := table.Coder()
		seen := map[string]bool{}
		for i := range 10_000 {
			var r Row
			c.Row(&r, lineOf(uint64(i), testAt.AddDate(0, 0, -i).Format("2006-01-02 15:04:05")+" far"))
			day := r.Time.Format(time.DateOnly)
			if !seen[day] {
				list = append(list, day)
			}
			seen[day] = true
		}
		return list
	}
	first := days(newTable(t, o))
	if len(first) > 8+2 {
		t.Errorf("the lines are in %d days", len(first))
	}
	if again := days(newTable(t, o)); !slices.Equal(first, again) {
		t.Errorf("the days are %v, then %v", first, again)
	}
}

func TestTime_BoundsAroundArrival(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for _, tt := range []struct {
		line string
		o    Options
		want time.Time
	}{
		{testAt.Add(24*time.Hour).Format(time.RFC3339Nano) + " x", Options{}, testAt.Add(24 * time.Hour)},
		{testAt.Add(24*time.Hour+1).Format(time.RFC3339Nano) + " x", Options{}, testAt},
		{testAt.Add(-30*24*time.Hour).Format(time.RFC3339Nano) + " x", Options{}, testAt.Add(-30 * 24 * time.Hour)},
		{testAt.Add(-30*24*time.Hour-1).Format(time.RFC3339Nano) + " x", Options{}, testAt},
		{testAt.Add(-2*time.Hour).Format(time.RFC3339Nano) + " x", Options{MaxAge: time.Hour}, testAt},
		{"2026-03-14 02:03:04 x", Options{Zone: zone}, time.Date(2026, 3, 14, 1, 3, 4, 0, time.UTC)},
		{"2026-03-14 02:03:04Z x", Options{Zone: zone}, time.Date(2026, 3, 14, 2, 3, 4, 0, time.UTC)},
	} {
		var r Row
		newTable(t, tt.o).Coder().Row(&r, lineOf(1, tt.line))
		if !r.Time.Equal(tt.want) {
			t.Errorf("%s: the time is %s, want %s", tt.line, r.Time, tt.want)
		}
	}
}

func TestTime_WithoutYearIsNearestToArrival(t *testing.T) {
	for at, want := range map[string]string{
		"2026-01-01T00:10:00Z": "2025-12-31T23:59:59Z",
		"2025-12-31T23:59:58Z": "2025-12-31T23:59:59Z", "2028-01-02T00:00:00Z": "2027-12-31T23:59:59Z",
	} {
		l := lineOf(1, "Dec 31 23:59:59 h p: new year")
		l.At, _ = time.Parse(time.RFC3339, at)
		var r Row
		newTable(t, Options{}).Coder().Row(&r, l)
		if got := r.Time.Format(time.RFC3339); got != want {
			t.Errorf("at %s the time is %s, want %s", at, got, want)
		}
	}
}

func TestStreams_OfASenderAreBounded(t *testing.T) {
	c := newTable(t, Options{Streams: 5}).Coder()
	streams := map[string]bool{}
	var r Row
	for i := range 100 {
		line := fmt.Sprintf(`{"host":"h%d","program":"p%d","msg":"x"}`, i, i)
		checkLine(t, c, line)
		c.Row(&r, lineOf(7, line))
		streams[fmt.Sprint(r.Fields[:r.Stream])] = true
		if got := Value(r.Fields, "program"); got != fmt.Sprintf("p%d", i) {
			t.Errorf("%s: the program is %q", line, got)
		}
	}
	if len(streams) > 5+1 {
		t.Errorf("the lines are in %d streams", len(streams))
	}
}

func TestGap_SaysWhatIsLost(t *testing.T) {
	e, c := openLibrary(t), newTable(t, Options{}).Coder()
	var r Row
	l := lineOf(0, "")
	c.Gap(&r, l, &handshake.Gap{Seq: 5, N: 3, Why: handshake.GapOverflow, From: 1773453784000, To: 1773453785000})
	checkRow(t, &r)
	e.add(&r)
	e.settle()
	found := 0
	err := e.query(`"3 lines are lost" overflow level:error "2026-03-14T02:03:04Z"`, func(fields []logstorage.Field) {
		found++
		if _, err := c.Text(fields, nil); !errors.Is(err, ErrGap) {
			t.Errorf("Text gives %v", err)
		}
	})
	if err != nil || found != 1 {
		t.Errorf("%d rows, %v", found, err)
	}
}

func TestText_OfADamagedRowIsAnError(t *testing.T) {
	c := newTable(t, Options{}).Coder()
	var r Row
	c.Row(&r, lineOf(1, `{"a":"b","msg":"hello"}`))
	for i, f := range r.Fields {
		if f.Name != "a" && f.Name != "_msg" && f.Name != fieldSkeleton && f.Name != FieldCRC {
			continue
		}
		fields := slices.Clone(r.Fields)
		fields[i].Value += "1"
		if line, err := c.Text(fields, nil); err == nil {
			t.Errorf("with %s changed the line is %q", f.Name, line)
		}
	}
	if want := strconv.FormatUint(uint64(crc32.Checksum([]byte(`{"a":"b","msg":"hello"}`), castagnoli)),
		10); Value(r.Fields, FieldCRC) != want {
		t.Errorf("the checksum is %s, want %s", Value(r.Fields, FieldCRC), want)
	}
}

func TestOpen_OfATableOfSomethingElseIsAnError(t *testing.T) {
	for _, entry := range []string{"", "p", "p\x00", "p\x00J", "p\x00{}"} {
		if _, err := Open(&skeletons{entries: []string{entry}}, Options{}); err == nil {
			t.Errorf("the entry %q is taken", entry)
		}
	}
}

func TestCoders_ShareATable(t *testing.T) {
	table := newTable(t, Options{})
	var group sync.WaitGroup
	for range 4 {
		c := table.Coder()
		group.Go(func() {
			for i := range 300 {
				checkLine(t, c, fmt.Sprintf(`{"k%d":"v","program":"p%d","msg":"x"}`, i%50, i%7))
			}
		})
	}
	group.Wait()
}
