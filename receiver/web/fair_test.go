package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
)

// unread is a client that asks and reads nothing of the answer but its beginning.
// Its connection alone holds little.
func (s *site) unread(t *testing.T, path, user string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-User: %s\r\n\r\n", path, user)
	return conn
}

// byHeader takes the name of a user from a header, as package login does.
func byHeader(r *http.Request) string { return r.Header.Get("X-User") }

// within gives the status of an answer, which must come.
func (s *site) within(t *testing.T, path, user string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-User", user)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func TestSearch_ClientsThatDoNotReadKeepNobodyWaiting(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	s := newSite(t, Options{Who: byHeader})
	addMany(t, s)
	for range 4 * maxQueries {
		conn := s.unread(t, "/api/search?limit=5000", "hog")
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			break // it waits for memory: its user has enough
		}
	}
	for _, user := range []string{"ann", "bob"} {
		if got := s.within(t, "/api/search?q=x&limit=10", user); got != http.StatusOK {
			t.Errorf("got %d", got)
		}
	}
}

func TestPage_AnAnswerThatNobodyReadsEnds(t *testing.T) {
	answerTime = 200 * time.Millisecond
	t.Cleanup(func() { answerTime = usualAnswerTime }) // when the server has ended
	s := newSite(t, Options{Who: byHeader})
	addMany(t, s)
	conn := s.unread(t, "/api/search?limit=5000", "ann")
	time.Sleep(2 * time.Second)
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := io.Copy(io.Discard, conn)
	if timeout := net.Error(nil); n >= 10<<20 || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%d bytes of the answer came, then: %v", n, err)
	}
}

// addMany adds lines of 10 MB.
func addMany(t *testing.T, s *site) {
	t.Helper()
	for range 10 {
		lines := make([]string, 500)
		for i := range lines {
			lines[i] = fmt.Sprintf("%d %s", i, strings.Repeat("x", 2000))
		}
		s.add(t, sidA, "web1", time.Now(), lines...)
	}
	s.searchable(t)
}

// Many downloads of the longest line, whose clients read nothing.
func TestRaw_UnreadDownloadsTakeBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of CPU time")
	}
	s := newSite(t, Options{Who: byHeader})
	s.add(t, sidA, "web1", time.Now(), strings.Repeat("x", 15<<20))
	s.searchable(t)
	for i := range 40 {
		s.unread(t, "/api/raw?uid="+handshake.UID(sidA, 1), fmt.Sprint("user", i%2))
	}
	time.Sleep(2 * time.Second)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d MiB", m.HeapAlloc>>20)
	if m.HeapAlloc > 3*pageMemory {
		t.Errorf("%d MiB are held", m.HeapAlloc>>20)
	}
	if got := s.within(t, "/api/search?limit=10", "ann"); got != http.StatusOK {
		t.Errorf("got %d", got)
	}
}

// A sender writes in another's name: it is named beside that name.
func TestSearch_NamesTheSenderOfAForeignHost(t *testing.T) {
	s := newSite(t, Options{})
	s.add(t, sidB, "web-b", time.Now(), `{"host":"web-a","message":"forged"}`, `{"host":"web-b","message":"honest"}`)
	_, body, _ := s.get(t, "/api/search")
	if !strings.Contains(body, `"host":"web-a","sender":"web-b"`) {
		t.Errorf("got %s", body)
	}
	if strings.Count(body, `"sender"`) != 1 {
		t.Errorf("the sender is named where it is the host: %s", body)
	}
}

// A client that asks much of the query API, and reads nothing, has half of the places.
func TestSelects_OneUserLeavesPlacesToOthers(t *testing.T) {
	s := newSite(t, Options{Who: byHeader})
	addMany(t, s)
	for range 4 * maxQueries {
		s.unread(t, "/select/logsql/query?query=*", "hog")
	}
	for range 2 * maxTails {
		s.unread(t, "/select/logsql/tail?query=*", "hog")
	}
	for s.within(t, "/select/logsql/tail?query=*&start_offset=-1", "hog") != http.StatusServiceUnavailable { // until all of them hold what they get
		time.Sleep(10 * time.Millisecond)
	}
	for _, user := range []string{"ann", "bob"} {
		if got := s.within(t, "/select/logsql/query?query=*&limit=1", user); got != http.StatusOK {
			t.Errorf("a query: got %d", got)
		}
		if got := s.within(t, "/api/search?q=x&limit=10", user); got != http.StatusOK {
			t.Errorf("the page: got %d", got)
		}
	}
	conn := s.unread(t, "/api/tail", "ann")
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 200" {
		t.Errorf("a live view: got %q, %v", head, err)
	}
}
