package logs

import (
	"archive/zip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// Before the library gets a new version, LOGS_TEST_FIXTURE=v1.52.2 go test -run Fixture
// keeps a directory that the old one wrote.
func TestFixture_IsWritten(t *testing.T) {
	version := os.Getenv("LOGS_TEST_FIXTURE")
	if version == "" {
		t.Skip("set LOGS_TEST_FIXTURE to the library's version")
	}
	dir := t.TempDir()
	s := open(t, dir, Options{Reserve: 1 << 20})
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	commit(t, s, lines(1, 100, at))
	commit(t, s, []receiver.Batch{{SID: sid, Host: "web1", Seq: 101, At: at, Gap: &handshake.Gap{Seq: 101, N: 9}}})
	commit(t, s, []receiver.Batch{{
		SID: sid, Host: "web1", Seq: 110, At: at.Add(oneDay),
		Lines: [][]byte{[]byte("caf\xe9"), []byte(`{"program":"app", "n": 7}`)},
	}})
	shut(t, s)
	if err := os.Remove(filepath.Join(dir, "query.sock")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join("testdata", version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_ReadsADirectoryThatAnEarlierLibraryWrote(t *testing.T) {
	list, err := filepath.Glob("testdata/v*.zip")
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	for _, name := range list {
		t.Run(filepath.Base(name), func(t *testing.T) {
			r, err := zip.OpenReader(name)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			dir := t.TempDir()
			if err := os.CopyFS(dir, r); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, Options{Reserve: 1 << 20})
			commit(t, s, lines(112, 10, time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)))
			report, err := s.Verify(t.Context())
			if err != nil || len(report.Streams) != 1 || report.Streams[0].Rows != 112 ||
				report.Streams[0].GapRows != 1 || report.Streams[0].Missing+report.Streams[0].Excess > 0 {
				t.Errorf("Verify = %+v, %v; want 112 rows and a gap", report, err)
			}
			odd := map[string]bool{"caf\xe9": true, `{"program":"app", "n": 7}`: true}
			if err := s.Lines(t.Context(), "*", 1000, func(l *Found) error {
				delete(odd, string(l.Text))
				return nil
			}); err != nil || len(odd) > 0 {
				t.Errorf("%v; not found: %v", err, odd)
			}
			if damaged, err := s.damage.list(); err != nil || len(damaged) > 0 {
				t.Errorf("damaged: %v, %v", damaged, err)
			}
		})
	}
}
