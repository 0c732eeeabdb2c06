package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// indexAll brings the index up to date.
func indexAll(t testing.TB, w *writer) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = w.index(); err != nil {
			t.Fatal(err)
		}
	}
}

func query(t testing.TB, text string) *Query {
	t.Helper()
	q, err := ParseQuery(text, noon)
	if err != nil {
		t.Fatalf("query %q: %v", text, err)
	}
	return q
}

func search(t testing.TB, r *Reader, text string, limit int) []Hit {
	t.Helper()
	res, err := r.Search(t.Context(), Request{Query: query(t, text), Limit: limit})
	if err != nil || !res.Complete {
		t.Fatalf("search %q: complete %t, %v", text, res.Complete, err)
	}
	return res.Hits
}

// find gives the seqs of the lines found.
func find(t testing.TB, r *Reader, query string) []uint64 {
	t.Helper()
	var seqs []uint64
	for _, h := range search(t, r, query, 100) {
		_, seq, err := handshake.ParseUID(h.UID)
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, seq)
	}
	return seqs
}

// logLines is what people's logs look like; searches is what they type.
var (
	logLines = []string{
		1:  `{"remote_addr":"10.0.0.7","request":"GET /wp-login.php HTTP/1.1","status":404,"agent":"curl/8.5.0"}`,
		2:  `{"remote_addr":"10.0.0.70","request":"POST \/api\/v1\/orders HTTP\/1.1","status":201}`,
		3:  `Failed password for invalid user admin from 203.0.113.9 port 52144 ssh2`,
		4:  `password check failed for admin`,
		5:  `Received block blk_-6952295868487656571 of size 67108864 from /10.250.14.224`,
		6:  `{"level":"ERROR","msg":"timeout\nat com.example.Main\tcaused by \"disk\"","user":"J\u00f6rg \ud83d\ude00"}`,
		7:  `Störung: ГОРОД 東京`,
		8:  "latin-1 Stra\xdfe and a \x00 NUL",
		9:  `C:\new\table id=550e8400-e29b-41d4-a716-446655440000`,
		10: `{not json \n\t}`,
		11: strings.Repeat("long", 100) + " end",
		12: strings.Repeat("0123456 ", maxSearched/8) + "toofar",
	}
	searches = []struct {
		query string
		want  []uint64
	}{
		{`10.0.0.7`, []uint64{1}},
		{`10.0.0.7*`, []uint64{2, 1}},
		{`/wp-login.php`, []uint64{1}},
		{`wp-login`, []uint64{1}},
		{`GET`, []uint64{1}},
		{`get`, []uint64{1}},
		{`status:404`, []uint64{1}},
		{`status:4*`, []uint64{1}},
		{`status:40`, nil},
		{`request:404`, nil},
		{`request:orders status:201`, []uint64{2}},
		{`REQUEST:"GET /wp-login.php"`, []uint64{1}},
		{`request:="POST /api/v1/orders HTTP/1.1"`, []uint64{2}},
		{`request:=POST`, nil},
		{`agent:*`, []uint64{1}},
		{`agent:* OR port:52144`, []uint64{3, 1}},
		{`user:admin`, []uint64{3}},
		{`user:Jörg`, []uint64{6}},
		{`severity:err`, []uint64{6}},
		{`severity:3`, []uint64{6}},
		{`level:err`, nil},
		{`admin -invalid`, []uint64{4}},
		{`admin AND NOT invalid`, []uint64{4}},
		{`-invalid admin`, []uint64{4}},
		{`(admin OR get) -(invalid OR curl)`, []uint64{4}},
		{`admin -user:admin`, []uint64{4}},
		{`host:web1 get`, []uint64{1}},
		{`host:web2 get`, nil},
		{`web1 get`, []uint64{1}},
		{`sid:aaaaaaaaaaaaaaaa get`, []uint64{1}},
		{`sid:bbbbbbbbbbbbbbbb get`, nil},
		{`uid:aaaaaaaaaaaaaaaa0000000000003`, []uint64{3}},
		{`from:2026-03-14T12:00:03Z to:2026-03-14T12:00:05Z admin`, nil},
		{`from:-1h admin`, []uint64{4, 3}},
		{`to:now admin`, nil},
		{`status`, []uint64{2, 1}},
		{`/api/v1/orders`, []uint64{2}},
		{`"failed password"`, []uint64{3}},
		{`failed password`, []uint64{4, 3}},
		{`"failed pass"*`, []uint64{3}},
		{`"failed pass"`, nil},
		{`password failed -admin`, nil},
		{`password failed "-admin"`, []uint64{4, 3}},
		{`blk_-6952295868487656571`, []uint64{5}},
		{`"-6952295868487656571"`, []uint64{5}},
		{`10.250.14.224`, []uint64{5}},
		{`err*`, []uint64{6}},
		{`rror`, nil},
		{`"timeout at com.example.main"`, []uint64{6}},
		{`caused by disk`, []uint64{6}},
		{`jörg`, []uint64{6}},
		{`störung город 東京`, []uint64{7}},
		{`東*`, []uint64{7}},
		{`stra`, []uint64{8}},
		{`nul`, []uint64{8}},
		{`C:\new\table`, []uint64{9}},
		{`550e8400-e29b-41d4-a716-446655440000`, []uint64{9}},
		{`ntable`, nil},
		{`n t json`, []uint64{10}},
		{strings.Repeat("long", 100), []uint64{11}},
		{`0123456 toofar`, nil},
		{`admin OR GET`, []uint64{4, 3, 1}},
		{`admin or get`, nil},
		{`NEAR(admin)`, nil},
		{`* GET " * - () ^ + :"`, []uint64{1}},
		{`GET - + : ^ *`, []uint64{1}},
	}
)

func TestSearch_FindsLinesBeforeAndAfterTheyAreIndexed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	w, err := openWriter(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	check := func(t *testing.T) {
		for _, s := range searches {
			if got := find(t, r, s.query); !slices.Equal(got, s.want) {
				t.Errorf("%.60q: got %d, want %d", s.query, got, s.want)
			}
		}
	}
	if _, err := commit(w, batch(sidA, 1, logLines[1:]...)); err != nil {
		t.Fatal(err)
	}
	t.Run("before", check)
	indexAll(t, w)
	t.Run("after", check)
	if got := stats(t, r).Unindexed; got != 0 {
		t.Errorf("got %d lines not indexed, want 0", got)
	}
}

func TestSearch_GivesTheNewestFirst(t *testing.T) {
	w := newWriter(t)
	r := readerOf(t, w)
	// Two streams take turns, one is older than both.
	var want []string
	put := func(b receiver.Batch) {
		t.Helper()
		if _, err := commit(w, b); err != nil {
			t.Fatal(err)
		}
		want = append(want, handshake.UID(b.SID, b.Seq))
	}
	for seq := uint64(1000); seq < 1002; seq++ {
		old := batch(sidC, seq, "tick")
		old.At = noon.Add(-time.Hour)
		put(old)
	}
	for seq := uint64(1); seq <= 40; seq++ {
		put(batch([]string{sidA, sidB}[seq%2], seq, "tick"))
		if seq == 30 {
			indexAll(t, w)
		}
	}
	slices.Reverse(want)
	check := func(t *testing.T) {
		for _, query := range []string{"tick", ""} {
			for _, limit := range []int{0, 1, 2, 15, 40, 41, 42, 100} {
				var got []string
				for _, h := range search(t, r, query, limit) {
					got = append(got, h.UID)
				}
				if !slices.Equal(got, want[:min(limit, len(want))]) {
					t.Errorf("query %q, limit %d: got %q", query, limit, got)
				}
			}
		}
	}
	t.Run("indexed in part", check)
	indexAll(t, w)
	t.Run("indexed", check)

	hits := search(t, r, "tick", 1)
	newest := Hit{UID: handshake.UID(sidA, 40), Time: noon.Add(40 * time.Second), Host: "web1", Line: "tick", Size: 4}
	if hits[0] != newest {
		t.Errorf("got %+v, want %+v", hits[0], newest)
	}
}

func readerOf(t testing.TB, w *writer) *Reader {
	t.Helper()
	var path string
	if err := w.db.QueryRow("SELECT file FROM pragma_database_list").Scan(&path); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestIndex_TakesTurnsInShortTransactions(t *testing.T) {
	w := newWriter(t)
	r := readerOf(t, w)
	// More than one step of the first stream, and runs with holes of the other.
	if _, err := commit(w, accessBatch(sidA, 1, 2500)); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq < 2*indexRanges; seq += 2 {
		if _, err := commit(w, batch(sidB, seq, "sparse")); err != nil {
			t.Fatal(err)
		}
	}
	before := stats(t, r).Unindexed
	steps := 0
	for left := before; left > 0; steps++ {
		if _, err := w.index(); err != nil {
			t.Fatal(err)
		}
		now := stats(t, r).Unindexed
		if done := left - now; done > indexBytes/200 || steps > 100 {
			t.Fatalf("step %d indexed %d lines", steps, done)
		}
		left = now
		if got := len(find(t, r, "sparse")); got != indexRanges {
			t.Fatalf("after step %d: got %d lines, want %d", steps, got, indexRanges)
		}
	}
	if steps < 5 {
		t.Errorf("%d lines took %d steps, want more", before, steps)
	}
}

func TestReader_ReadsWhileAnotherStoreWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openTest(t, path)
	r, err := OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for seq := uint64(1); seq <= 50; seq++ {
		word := fmt.Sprintf("unique%d", seq)
		mustCommit(t, s, batch(sidA, seq, "the "+word+" line"))
		if got := find(t, r, word); !slices.Equal(got, []uint64{seq}) {
			t.Fatalf("%s: got %d at once after Commit", word, got)
		}
		if got := stats(t, r); got.Documents != int64(seq) || got.Streams[0].Cursor != seq+1 {
			t.Fatalf("seq %d: got %+v", seq, got)
		}
	}
}

func TestStore_IndexesInTheBackground(t *testing.T) {
	s := newStore(t)
	for i := range uint64(2) {
		mustCommit(t, s, accessBatch(sidA, 1+i*1000, 1000))
	}
	for stats(t, s.Reader).Unindexed > 0 { // or the test times out
		runtime.Gosched()
	}
}

// FuzzSearch holds that the index and the scan of what is not indexed agree on
// what matches.
func FuzzSearch(f *testing.F) {
	for i, s := range searches {
		f.Add(s.query, []byte(logLines[1+i%10]))
		if len(s.want) > 0 {
			f.Add(s.query, []byte(logLines[s.want[0]]))
		}
	}
	f.Add(strings.Repeat("a ", 2000), []byte("a"))
	f.Add(strings.Repeat(`"a b"* `, 500), []byte("a b"))
	f.Add(strings.Repeat("-(", 16)+"a"+strings.Repeat(")", 16), []byte("a b"))
	f.Add(strings.Repeat("(a OR b -", 30)+"a"+strings.Repeat(")", 30), []byte("a b"))
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		f.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(schema); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { db.Close() })
	f.Fuzz(func(t *testing.T, asked string, line []byte) {
		q, err := ParseQuery(asked, noon)
		if err != nil {
			if e := (*QueryError)(nil); !errors.As(err, &e) || e.At < 1 || e.At > len([]rune(asked))+1 {
				t.Fatalf("query %q: got %v", asked, err)
			}
			return
		}
		d := document{id: documentID(1, 1), sid: sidA, at: noon.UnixMilli(), host: "web1", line: line}
		q.From, q.To = time.Time{}, time.Time{}
		want := q.matches(&d)
		fts, exact := q.expression()
		if fts == "" {
			return
		}
		if _, err := db.Exec("INSERT INTO words (words) VALUES ('delete-all')"); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("INSERT INTO words (rowid, text) VALUES (1, ?)", text(d.host, line)); err != nil {
			t.Fatal(err)
		}
		var found bool
		err = db.QueryRow("SELECT EXISTS (SELECT 1 FROM words WHERE words MATCH ?)", fts).Scan(&found)
		if err != nil {
			t.Fatalf("query %q: %v", asked, err)
		}
		if found != want && (exact || !found) {
			t.Errorf("query %q, line %q: the index says %t, the scan %t", asked, line, found, want)
		}
	})
}

// A line of brackets ends no process, today or when it is deleted.
func TestStore_TakesLinesThatAreNestedWithoutEnd(t *testing.T) {
	w := newWriter(t)
	r := readerOf(t, w)
	deep := strings.Repeat("[", handshake.MaxLine-100)
	lines := []string{deep + `\`, `{"a":"\n","field":` + deep, `{"field":"a\nword","deep":` + strings.Repeat("[", 10_000-1) + strings.Repeat("]", 10_000-1) + "}"}
	for i, l := range lines {
		if _, err := commit(w, batch(sidA, uint64(i+1), l)); err != nil {
			t.Fatal(err)
		}
	}
	for _, indexed := range []bool{false, true} {
		if indexed {
			indexAll(t, w)
		}
		if got := find(t, r, "field:word"); !slices.Equal(got, []uint64{3}) {
			t.Errorf("got %d, want the line that is just not too deep", got)
		}
		if got := len(find(t, r, "field")); got != 2 {
			t.Errorf("got %d lines with the word, want 2", got)
		}
	}
	retainAll(t, w, Retain{Age: time.Hour}, noon.Add(10*time.Hour))
	checkIntegrity(t, w, r)
}
