package wsreceive

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wsrelay/receiver/store/stdout"

	"wsrelay/internal/connlimit"
	"wsrelay/receiver"
)

// What the receiver does not see: requests that net/http refuses.
func TestServe_RefusesRequestsThatAreNone(t *testing.T) {
	addr := serves(t)
	for name, tt := range map[string]struct {
		request string
		status  int
	}{
		"a header of 1 MiB": {
			"GET /relay HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 1<<20),
			http.StatusRequestHeaderFieldsTooLarge,
		},
		"a path of 1 MiB": {"GET /" + strings.Repeat("x", 1<<20), http.StatusRequestHeaderFieldsTooLarge},
		"10,000 headers": {
			"GET /relay HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 10_000),
			http.StatusRequestHeaderFieldsTooLarge,
		},
		"not HTTP":            {"SSH-2.0-x\r\n\r\n", http.StatusBadRequest},
		"TLS on a plain port": {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", http.StatusBadRequest},
		"another path":        {"GET /etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n", http.StatusNotFound},
		"another method": {
			"POST /relay HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
			http.StatusMethodNotAllowed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = io.WriteString(c, tt.request) // it may be refused half-way
			}()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status {
				t.Errorf("got %d, want %d", resp.StatusCode, tt.status)
			}
			t.Logf("%s: %d", name, resp.StatusCode)
			c.Close()
			<-sent
		})
	}
}

// A request that comes a byte at a time is cut off.
func TestServe_CutsOffWhoNeverFinishesAsking(t *testing.T) {
	t.Parallel() // it waits for the time that a request has
	c, err := net.Dial("tcp", serves(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	for _, err = io.WriteString(c, "GET /relay HTTP/1.1\r\nX: "); err == nil; _, err = c.Write([]byte("x")) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("it is still being listened to")
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("a byte at a time: cut off after %v", time.Since(began).Round(time.Second))
}

// serves starts a wsreceive without a store, until the test ends.
func serves(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	go func() {
		served <- serve(ctx, connlimit.New(ln, 10, 0), receiver.New(stdout.New(io.Discard), receiver.Options{}),
			http.NotFoundHandler(), http.NotFoundHandler(), log)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil && !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}
