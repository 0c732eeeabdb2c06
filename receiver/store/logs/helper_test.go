package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"wsrelay/handshake"
	"wsrelay/receiver"
	"wsrelay/receiver/store/journal"
	"wsrelay/receiver/store/logs/row"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// The library has helpers that live as long as the process.
var libraryHelpers []goleak.Option

func TestMain(m *testing.M) {
	if f := children[os.Getenv("LOGS_TEST_CHILD")]; f != nil {
		os.Exit(f(os.Getenv("LOGS_TEST_DIR")))
	}
	os.Setenv("LOGS_TEST_BEGINNING", time.Now().UTC().Format(dayFormat)) // for the children too
	libraryHelpers = []goleak.Option{
		goleak.IgnoreCurrent(), // of packages' initialisation
		goleak.IgnoreAnyFunction("github.com/VictoriaMetrics/VictoriaMetrics/lib/blockcache.(*Cache).cleaner"),
	}
	goleak.VerifyTestMain(m, libraryHelpers...)
}

// plain is a coder that keeps a line as the message of its row.
type plain struct{ skeletons row.Skeletons }

func (p plain) Row(dst *row.Row, l *row.Line) {
	msg := string(l.Text)
	dst.Time, dst.Stream, dst.Whole = l.At, 2, false
	if day, rest, ok := strings.Cut(msg, " "); ok {
		if t, err := time.Parse(time.RFC3339, day); err == nil && rest != "" {
			dst.Time = t
		}
	}
	if len(msg) > 1<<20 || strings.ContainsRune(msg, 0xFFFD) {
		msg, dst.Whole = strings.ToValidUTF8(msg[:min(len(msg), 1<<20)], "?"), true
	}
	dst.Fields = append(dst.Fields[:0],
		logstorage.Field{Name: "host", Value: l.Host}, logstorage.Field{Name: "program", Value: "test"},
		logstorage.Field{Name: "_msg", Value: msg},
		logstorage.Field{Name: row.FieldSID, Value: l.SID}, logstorage.Field{Name: row.FieldSeq, Value: row.SeqValue(l.Seq)},
		logstorage.Field{Name: row.FieldCRC, Value: strconv.FormatUint(uint64(crc32.Checksum(l.Text, castagnoli)), 10)},
		logstorage.Field{Name: row.FieldSegment, Value: l.Segment})
}

func (p plain) Gap(dst *row.Row, l *row.Line, g *handshake.Gap) {
	dst.Time, dst.Stream, dst.Whole = l.At, 1, false
	dst.Fields = append(dst.Fields[:0], logstorage.Field{Name: "host", Value: l.Host},
		logstorage.Field{Name: "_msg", Value: "lines are lost"},
		logstorage.Field{Name: row.FieldSID, Value: l.SID}, logstorage.Field{Name: row.FieldSeq, Value: row.SeqValue(g.Seq)},
		logstorage.Field{Name: row.FieldGap, Value: strconv.FormatUint(g.N, 10)},
		logstorage.Field{Name: row.FieldSegment, Value: l.Segment})
}

func (p plain) Text(fields []logstorage.Field, blob func() ([]byte, error)) ([]byte, error) {
	for _, f := range fields {
		if f.Name == fieldBlob {
			return blob()
		}
	}
	for _, f := range fields {
		if f.Name == "_msg" {
			return []byte(f.Value), nil
		}
	}
	return nil, errors.New("no message")
}

func testOptions() Options {
	return Options{Reserve: 1 << 20, coder: func(s row.Skeletons) (func() coder,
		error,
	) {
		return func() coder { return plain{s} }, nil
	}}
}

// journal of what is logged.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.dir.Fd() != ^uintptr(0) {
			s.Close()
		}
	})
	return s
}

func shut(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

const sid = "0123456789abcdef"

// lines makes a batch of n lines from seq on.
func lines(seq uint64, n int, at time.Time) []receiver.Batch {
	b := receiver.Batch{SID: sid, Host: "web1", Seq: seq, At: at}
	for i := range n {
		b.Lines = append(b.Lines, fmt.Appendf(nil, "line %d of the test %x", seq+uint64(i),
			crc32.ChecksumIEEE([]byte(strconv.FormatUint(seq+uint64(i), 10)))))
	}
	return []receiver.Batch{b}
}

func add(t testing.TB, s *Store, segment string, records []receiver.Batch) {
	t.Helper()
	if err := s.db.Add(context.Background(), segment, records); err != nil {
		t.Fatal(err)
	}
}

func barrier(t testing.TB, s *Store) {
	t.Helper()
	if err := s.db.Barrier(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func wantCount(t testing.TB, s *Store, segment string, want uint64) {
	t.Helper()
	got, err := s.db.Count(context.Background(), segment)
	if err != nil || got != want {
		t.Errorf("Count(%s) = %d, %v; want %d", segment, got, err, want)
	}
}

// ids are the numbers of the rows of a segment, in order.
func ids(t testing.TB, s *Store, segment string) (list []uint64) {
	t.Helper()
	if err := s.db.Each(context.Background(), segment, func(id journal.ID) { list = append(list, id.Seq) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func goleakFind() error { return goleak.Find(libraryHelpers...) }
