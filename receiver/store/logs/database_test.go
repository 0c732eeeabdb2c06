package logs

import (
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/journal"
	"wsrelay/receiver/store/logs/row"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

func TestDatabase_CountEachAndSumsAreExact(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	now := time.Now()
	add(t, s, "e-1", lines(1, 3000, now))
	add(t, s, "e-1", []receiver.Batch{{SID: sid, Host: "web1", At: now, Gap: &handshake.Gap{Seq: 3001, N: 7}}})
	add(t, s, "e-10", lines(3008, 10, now))
	add(t, s, "e-2", []receiver.Batch{{
		SID: "other", Host: "web2", Seq: 5, At: now.Add(-3 * oneDay),
		Lines: [][]byte{[]byte("x")},
	}})
	for segment, want := range map[string]uint64{"e-1": 3001, "e-10": 10, "e-2": 1, "e": 0, "1": 0, "e-100": 0} {
		wantCount(t, s, segment, want)
	}
	var gaps []journal.ID
	n := 0
	if err := s.db.Each(t.Context(), "", func(id journal.ID) {
		n++
		if id.Gap > 0 {
			gaps = append(gaps, id)
		}
	}); err != nil || n != 3012 || len(gaps) != 1 || gaps[0] != (journal.ID{SID: sid, Seq: 3001, Gap: 7}) {
		t.Errorf("Each: %d rows, gaps %v, %v; want 3012 and one gap", n, gaps, err)
	}
	sums := map[uint64]uint32{}
	if err := s.db.Sums(t.Context(), sid, 2999, 3010, func(seq uint64, crc uint32) { sums[seq] = crc }); err != nil {
		t.Fatal(err)
	}
	if len(sums) != 4 || sums[2999] != crc32.Checksum(lines(2999, 1, now)[0].Lines[0], castagnoli) || sums[3009] == 0 ||
		sums[3010] != 0 {
		t.Errorf("Sums = %v; want 2999, 3000, 3008 and 3009", sums)
	}
}

func TestDatabase_MarkLasts(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	for _, m := range []string{"one", "two"} {
		if err := s.db.SetMark(m); err != nil {
			t.Fatal(err)
		}
		if got, err := s.db.Mark(); got != m || err != nil {
			t.Errorf("Mark = %q, %v", got, err)
		}
	}
}

func TestDatabase_LinesThatFitNoRowComeBackByteForByte(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testOptions())
	long, odd := []byte(strings.Repeat("0123456789\x00", 1<<18)), []byte("caf\xe9 \xff")
	add(t, s, "e-1", []receiver.Batch{{
		SID: sid, Host: "h", Seq: 1, At: time.Now(),
		Lines: [][]byte{long, odd, []byte("plain")},
	}})
	shut(t, s)
	s = open(t, dir, testOptions())
	got := map[string]string{}
	if err := s.library.query(t.Context(), `"wsrelay.sid":* | fields _msg, wsrelay.seq, wsrelay.blob`,
		func(b *logstorage.DataBlock) error {
			for i := range b.RowsCount() {
				var fields []logstorage.Field
				for _, c := range b.GetColumns(false) {
					if c.Values[i] != "" {
						fields = append(fields, logstorage.Field{
							Name:  strings.Clone(c.Name),
							Value: strings.Clone(c.Values[i]),
						})
					}
				}
				text, err := s.Text(fields)
				if err != nil {
					return err
				}
				got[b.GetColumnByName(row.FieldSeq).Values[i]] = string(text)
			}
			return nil
		}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[row.SeqValue(1)] != string(long) || got[row.SeqValue(2)] != string(odd) ||
		got[row.SeqValue(3)] != "plain" {
		t.Errorf("%d lines came back, or altered: %.60q", len(got), got)
	}
}

func TestDatabase_RowsOutsideOfRetentionOrInTheFarFutureAreStoredUnderNow(t *testing.T) {
	o := testOptions()
	o.Retain = 30 * oneDay
	s := open(t, t.TempDir(), o)
	now := time.Now()
	for i, at := range []time.Time{
		now.Add(-40 * oneDay), time.Unix(0, 0),
		{},
		now.Add(40 * oneDay),
		now.AddDate(8000, 0, 0),
	} {
		add(t, s, "e-1", lines(uint64(10*i), 10, at))
	}
	wantCount(t, s, "e-1", 50)
	days, err := s.library.days()
	if err != nil || len(days) > 2 {
		t.Errorf("days %v, %v; want today only", days, err)
	}
}

func TestDatabase_ALineForEachOf10000DaysMakesFewDays(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	s := open(t, t.TempDir(), testOptions())
	s.db.newDays = 20
	now := time.Now()
	var b receiver.Batch
	b.SID, b.Host, b.Seq, b.At = sid, "h", 1, now
	for i := range 10000 {
		b.Lines = append(b.Lines, []byte(now.Add(-time.Duration(i)*oneDay).UTC().Format(time.RFC3339)+" hello"))
	}
	add(t, s, "e-1", []receiver.Batch{b})
	barrier(t, s)
	wantCount(t, s, "e-1", 10000)
	if days, err := s.library.days(); err != nil || len(days) != 20 {
		t.Errorf("%d days, %v; want 20", len(days), err)
	}
}

func TestDatabase_AFolderOfADayThatWasCopiedThereTakesRows(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	at := time.Now().Add(-5 * oneDay)
	if err := os.MkdirAll(filepath.Join(s.library.path, "partitions", at.UTC().Format(dayFormat)), 0o700); err != nil {
		t.Fatal(err)
	}
	add(t, s, "e-1", lines(1, 10, at))
	barrier(t, s)
	wantCount(t, s, "e-1", 10)
}

func TestDatabase_ADayThatWasDetachedMakesTheBarrierFail(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	at := time.Now().Add(-5 * oneDay)
	add(t, s, "e-1", lines(1, 10, at))
	if err := s.library.detach(at.UTC().Format(dayFormat)); err != nil {
		t.Fatal(err)
	}
	add(t, s, "e-1", lines(11, 10, at)) // which the library drops
	if err := s.db.Barrier(t.Context()); err == nil {
		t.Fatal("a barrier passed over rows that were dropped")
	}
	var missing []receiver.Batch
	if got := ids(t, s, "e-1"); len(got) != 10 {
		t.Fatalf("rows of the day, which is attached again: %v", got)
	}
	missing = lines(11, 10, at)
	add(t, s, "e-1", missing)
	barrier(t, s)
	wantCount(t, s, "e-1", 20)
}

func TestDatabase_ABarrierCoversTheDayOfTheRowsWhateverTheClockSays(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testOptions())
	for i := range 5 { // one clock after another, as when it is set back over midnight
		add(t, s, "e-1", lines(uint64(100*i), 100, time.Now().Add(-time.Duration(i)*oneDay)))
	}
	barrier(t, s)
	for _, day := range []int{0, 1, 2, 3, 4} {
		parts, err := readParts(filepath.Join(s.library.path, "partitions", time.Now().Add(-time.Duration(day)*oneDay).UTC().Format(dayFormat), "datadb"))
		if err != nil || len(parts) == 0 {
			t.Errorf("day %d: parts %v, %v", day, parts, err)
		}
	}
}

// wide is a coder whose rows are outside of the library's limits.
type wide struct{ plain }

func (w wide) Row(dst *row.Row, l *row.Line) {
	w.plain.Row(dst, l)
	switch l.Seq % 4 {
	case 0:
		for i := range 2100 {
			dst.Fields = append(dst.Fields, logstorage.Field{Name: "f" + strconv.Itoa(i), Value: "x"})
		}
	case 1:
		dst.Fields = append(dst.Fields, logstorage.Field{Name: strings.Repeat("n", 200), Value: "x"})
	case 2:
		dst.Fields = append(dst.Fields, logstorage.Field{Name: "long", Value: strings.Repeat("v", 3<<20)})
	}
}

func TestDatabase_ARowOutsideOfTheLibrarysLimitsHoldsUpNoOther(t *testing.T) {
	o := testOptions()
	o.coder = func(s row.Skeletons) (func() coder, error) { return func() coder { return wide{plain{s}} }, nil }
	s := open(t, t.TempDir(), o)
	add(t, s, "e-1", lines(1, 40, time.Now()))
	barrier(t, s)
	wantCount(t, s, "e-1", 40)
	n := 0
	if err := s.db.Sums(t.Context(), sid, 1, 41, func(seq uint64, crc uint32) {
		if crc == crc32.Checksum(lines(seq, 1, time.Now())[0].Lines[0], castagnoli) {
			n++
		}
	}); err != nil || n != 40 {
		t.Errorf("Sums: %d, %v; want 40", n, err)
	}
}

func TestOpen_RefusesASecondProcessAndASecondStore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, testOptions())
	if _, err := Open(dir, testOptions()); !errors.Is(err, receiver.ErrInUse) {
		t.Errorf("Open = %v; want ErrInUse", err)
	}
	if _, err := Open(t.TempDir(), testOptions()); err == nil {
		t.Error("a second store in one process")
	}
	shut(t, s)
}

func TestStore_KeepsItsFilesWhenTheDirectoryIsMoved(t *testing.T) {
	root := t.TempDir()
	dir, away := filepath.Join(root, "a"), filepath.Join(root, "b")
	s := open(t, dir, testOptions())
	add(t, s, "e-1", lines(1, 100, time.Now()))
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	add(t, s, "e-1", lines(101, 100, time.Now()))
	barrier(t, s)
	wantCount(t, s, "e-1", 200)
	if _, err := os.Stat(dir); err == nil {
		t.Error("the old path was made again")
	}
	shut(t, s)
	s = open(t, away, testOptions())
	wantCount(t, s, "e-1", 200)
}

func TestStore_OpensAndClosesManyTimes(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		s := open(t, dir, testOptions())
		wantCount(t, s, "e-1", uint64(10*i))
		add(t, s, "e-1", lines(uint64(10*i), 10, time.Now()))
		shut(t, s)
	}
	if err := goleakFind(); err != nil {
		t.Error(err)
	}
}

func TestRetention_DeletesOldDaysAndTheirBlobs(t *testing.T) {
	o := testOptions()
	s := open(t, t.TempDir(), o)
	s.opts.Retain = 0
	now := time.Now()
	for i := range 5 {
		b := lines(uint64(10*i), 10, now.Add(-time.Duration(i)*oneDay))
		b[0].Lines[0] = []byte("\xff")
		add(t, s, "e-1", b)
	}
	barrier(t, s)
	s.opts.Retain = 36 * time.Hour
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	days, err := s.library.days()
	blobs, _ := os.ReadDir(s.blobs.dir)
	if err != nil || len(days) < 2 || len(days) > 3 || len(blobs) != len(days) {
		t.Errorf("days %v, %v, %d blobs; want 2 or 3", days, err, len(blobs))
	}
	wantCount(t, s, "e-1", uint64(10*len(days)))
	add(t, s, "e-2", lines(1000, 10, now.Add(-4*oneDay))) // a late line is not lost
	barrier(t, s)
	wantCount(t, s, "e-2", 10)
}

func TestRetention_BySizeKeepsTheNewestDay(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	now := time.Now()
	for i := range 4 {
		add(t, s, "e-1", lines(uint64(1000*i), 1000, now.Add(-time.Duration(i)*oneDay)))
	}
	barrier(t, s)
	s.opts.RetainBytes = 1
	if err := s.retention.pass(); err != nil {
		t.Fatal(err)
	}
	if days, err := s.library.days(); err != nil || len(days) != 1 || days[0] != now.UTC().Format(dayFormat) {
		t.Errorf("days %v, %v; want today", days, err)
	}
}

func TestRetention_DoesNotBelieveAClockThatJumpsYearsAhead(t *testing.T) {
	book := &logbook{}
	o := testOptions()
	o.Log = book.logger()
	dir := t.TempDir()
	s := open(t, dir, o)
	now := time.Now()
	for i := range 3 {
		add(t, s, "e-1", lines(uint64(10*i), 10, now.Add(-time.Duration(i)*oneDay)))
	}
	barrier(t, s)
	s.opts.Retain = 30 * oneDay
	passAt := func(at time.Time) int {
		t.Helper()
		s.retention.now = func() time.Time { return at }
		if err := s.retention.pass(); err != nil {
			t.Fatal(err)
		}
		days, _ := s.library.days()
		return len(days)
	}
	if passAt(now) != 3 || passAt(now.Add(3000*oneDay)) != 3 || passAt(now.Add(3000*oneDay+time.Hour)) != 3 {
		t.Error("retention believed the clock")
	}
	if n := strings.Count(book.String(), "clock is ahead"); n != 1 {
		t.Errorf("said %d times; want once", n)
	}
	shut(t, s)
	s = open(t, dir, o) // nor after a restart
	s.opts.Retain = 30 * oneDay
	if passAt(now.Add(3000*oneDay+2*time.Hour)) != 3 {
		t.Error("retention believed the clock after a restart")
	}
	if passAt(now.Add(3002*oneDay)) != 1 {
		t.Error("the clock has run for a day, and is not believed")
	}
}

func TestSkeletons_GiveEachNumberOnceWhateverIsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "skeletons")
	reopen := func() *Skeletons {
		s, err := OpenSkeletons(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	s := reopen()
	for i, text := range []string{"{a:%s}", "two\nlines\x00\xff", "three"} {
		if n, ok := s.Number([]byte(text)); !ok || n != uint32(i) {
			t.Fatalf("Number = %d, %v", n, ok)
		}
	}
	b, _ := os.ReadFile(path)
	b[12] ^= 1
	if err := os.WriteFile(path, append(b, "12345678 \"cut"...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = reopen()
	if _, err := s.Skeleton(0); err == nil {
		t.Error("a damaged skeleton is given")
	}
	if got, err := s.Skeleton(1); err != nil || string(got) != "two\nlines\x00\xff" {
		t.Errorf("Skeleton(1) = %q, %v", got, err)
	}
	if n, ok := s.Number([]byte("four")); !ok || n != 4 {
		t.Errorf("Number = %d, %v; want 4: 3 was cut", n, ok)
	}
	s = reopen()
	if got, err := s.Skeleton(4); err != nil || string(got) != "four" {
		t.Errorf("Skeleton(4) = %q, %v", got, err)
	}
}

func TestVerify_NamesWhatIsMissingAndWhatIsTooMuch(t *testing.T) {
	s := open(t, t.TempDir(), testOptions())
	commit(t, s, lines(1, 100, time.Now()))
	add(t, s, "of no segment", lines(201, 3, time.Now()))
	r, err := s.Verify(t.Context())
	if err != nil || len(r.Streams) != 1 || r.Streams[0].Lines != 100 || r.Streams[0].Rows != 103 ||
		r.Streams[0].Excess != 3 {
		t.Errorf("Verify = %+v, %v", r, err)
	}
}

func commit(t testing.TB, s *Store, batches []receiver.Batch) {
	t.Helper()
	if _, err := s.Commit(t.Context(), batches); err != nil {
		t.Fatal(err)
	}
}
