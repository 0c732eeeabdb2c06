package sqlite

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// retainAll deletes and gives back all there is.
func retainAll(t *testing.T, w *writer, keep Retain, now time.Time) (steps int) {
	t.Helper()
	for more := true; more; steps++ {
		var err error
		if more, err = w.retain(keep, now); err != nil {
			t.Fatal(err)
		}
	}
	return steps
}

// checkIntegrity holds the tables against each other, and the index against the
// documents: FTS5 counts every word of every document that is left.
func checkIntegrity(t *testing.T, w *writer, r *Reader) {
	t.Helper()
	var path, verdict string
	if err := r.db.QueryRow("SELECT file FROM pragma_database_list").Scan(&path); err != nil {
		t.Fatal(err)
	}
	// Of its own: the check of FTS5 trusts what a connection remembers of the index.
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity check: %s, %v", verdict, err)
	}
	var documents, counted, runs, lists int64
	err = r.db.QueryRow(`SELECT (SELECT count(*) FROM documents), (SELECT sum(documents) FROM streams),
		(SELECT coalesce(sum(last - first + 1), 0) FROM runs),
		(SELECT count(*) FROM runs r, documents d WHERE d.id BETWEEN r.first AND r.last AND d.at / 60000 = r.minute)`).
		Scan(&documents, &counted, &runs, &lists)
	if err != nil || documents != counted || documents != runs || documents != lists {
		t.Errorf("got %d documents, %d counted, %d in runs, %d of their minute, %v", documents, counted, runs, lists, err)
	}
	// What the index would say after it had been built anew.
	indexAll(t, w)
	var orphans int64
	err = w.transact(func() error {
		if err := w.exec("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab (main, words, instance)"); err != nil {
			return err
		}
		err := w.each("SELECT count(*) FROM temp.vocabulary WHERE doc NOT IN (SELECT id FROM documents)", nil,
			func(scan func(...any) error) error { return scan(&orphans) })
		if err != nil {
			return err
		}
		return w.exec("DROP TABLE temp.vocabulary")
	})
	if err != nil || orphans != 0 {
		t.Errorf("the index has %d words of documents that are gone, %v", orphans, err)
	}
}

func TestRetain_ByAgeDeletesTheOldestOfEveryStream(t *testing.T) {
	w := newWriter(t)
	r := readerOf(t, w)
	for i := range 40 {
		for _, sid := range []string{sidA, sidB} {
			b := batch(sid, uint64(1+10*i))
			b.At = noon.Add(time.Duration(i) * time.Minute)
			for j := range 10 {
				b.Lines = append(b.Lines, fmt.Appendf(nil, "minute m%d line %d Größe %s", i, j, strings.Repeat("x ", 100)))
			}
			if _, err := commit(w, b, gap(sid, b.End()+1_000_000, 2)); err != nil {
				t.Fatal(err)
			}
		}
		if i == 20 {
			indexAll(t, w) // the rest is deleted before it is indexed
		}
	}
	if retainAll(t, w, Retain{Age: 3 * time.Hour}, noon.Add(3*time.Hour)); stats(t, r).Retired != 0 {
		t.Fatalf("within the age: got %+v", stats(t, r))
	}
	steps := retainAll(t, w, Retain{Age: time.Hour}, noon.Add(84*time.Minute))
	if steps < 5 {
		t.Errorf("got %d steps, want many short ones", steps)
	}
	checkIntegrity(t, w, r)
	st := stats(t, r)
	// Of the minute that ends at 12:24 every line is old; that which begins then stays.
	if st.Retired != 2*24*10 || st.Documents != 2*16*10 || st.Streams[0].Retired != 240 || st.Streams[0].Cursor != 1_000_403 {
		t.Errorf("got %+v", st)
	}
	for text, want := range map[string]int{"m23": 0, "m24": 20, "größe": 320, "m10 OR m20 OR m39": 20, "": 320} {
		if got := len(search(t, r, text, 10_000)); got != want {
			t.Errorf("%q: got %d lines, want %d", text, got, want)
		}
	}
	// Half a run that had been indexed.
	retainAll(t, w, Retain{Age: time.Hour}, noon.Add(10*time.Hour))
	checkIntegrity(t, w, r)
	if st := stats(t, r); st.Documents != 0 || st.Retired != 800 || st.Gaps == 0 {
		t.Errorf("at the end: got %+v", st)
	}
}

func TestRetain_BySizeStaysBelowItAndGivesSpaceBack(t *testing.T) {
	w := newWriter(t)
	r := readerOf(t, w)
	seq := uint64(1)
	add := func(n int) {
		b := accessBatch(sidA, seq, n)
		b.At = noon.Add(time.Duration(seq) * time.Millisecond)
		if _, err := commit(w, b); err != nil {
			t.Fatal(err)
		}
		seq += uint64(n)
	}
	for range 6 {
		add(500)
	}
	indexAll(t, w)
	before := stats(t, r)
	keep := Retain{Bytes: before.Bytes / 2}
	retainAll(t, w, keep, noon)
	checkIntegrity(t, w, r)
	st := stats(t, r)
	limit := keep.Bytes*5/4 + minSpare
	if st.Documents+st.Retired != 3000 || st.Documents < 750 || st.Bytes > limit {
		t.Errorf("of %d bytes got %+v", before.Bytes, st)
	}
	// The newest are what is left.
	if hits := search(t, r, "", int(st.Documents)); hits[0].Line != string(accessLine(3000)) ||
		hits[len(hits)-1].Line != string(accessLine(uint64(st.Retired)+1)) {
		t.Errorf("got %q to %q", hits[0].UID, hits[len(hits)-1].UID)
	}
	// From here on the room is used again.
	for range 6 {
		add(500)
		indexAll(t, w)
		retainAll(t, w, keep, noon)
	}
	checkIntegrity(t, w, r)
	if st := stats(t, r); st.Bytes > limit || st.Documents < 750 {
		t.Errorf("later: got %+v, limit %d", st, limit)
	}
}

func TestStore_RetainsInTheBackground(t *testing.T) {
	s, err := Open(t.TempDir()+"/store.db", Options{Retain: Retain{Age: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fresh := batch(sidB, 1, "fresh")
	fresh.At = time.Now()
	mustCommit(t, s, accessBatch(sidA, 1, 1000))
	mustCommit(t, s, fresh)
	for stats(t, s.Reader).Retired < 1000 { // or the test times out
		runtime.Gosched()
	}
	if got := search(t, s.Reader, "", 10); len(got) != 1 || got[0].Line != "fresh" {
		t.Errorf("got %+v", got)
	}
}
