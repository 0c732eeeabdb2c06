package wsreceive

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"wsrelay/receiver/store/stdout"

	"wsrelay/receiver"
	"wsrelay/receiver/web"
	"wsrelay/receiver/web/login"
)

// Who reaches an address that others reach, too, gets in with a password only,
// and where there is none, nobody.
func TestShow_IsClosedBeyondLoopback(t *testing.T) {
	store, pageOf := storeAndPage(stdout.New(io.Discard))
	rcv := receiver.New(store, receiver.Options{})
	// What htpasswd -nbBC 5 ann 'correct horse' has printed.
	users, err := login.ParseUsers([]byte("ann:$2y$05$WU.R/1Cb0Olm2q9lw4lm7ONp5V.8RGK7H6DWZ7B0cyx0JtFgvw9d."))
	if err != nil {
		t.Fatal(err)
	}
	near, far := &net.TCPAddr{IP: net.IPv6loopback}, &net.TCPAddr{IP: net.IPv6unspecified}
	for name, tt := range map[string]struct {
		addr                net.Addr
		proxy               bool
		users               login.Users
		stranger, ann, said string
	}{
		"near": {
			near, false, nil, "200 OK", "200 OK",
			"level=INFO msg=page url=/ users=anybody",
		},
		"near, with a password":       {near, false, users, "401 Unauthorized", "200 OK", "users=1"},
		"by a proxy":                  {near, true, nil, "403 Forbidden", "403 Forbidden", "page is closed"},
		"by a proxy, with a password": {near, true, users, "401 Unauthorized", "200 OK", "users=1"},
		"far":                         {far, false, nil, "403 Forbidden", "403 Forbidden", "page is closed"},
		"far, with a password": {
			far, false, users, "401 Unauthorized", "200 OK",
			"passwords of the page travel in the clear",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, c := &loaded{users: tt.users}, &serveCmd{authOptions: authOptions{BehindProxy: tt.proxy}}
			h := pageHandler(login.New(c.policy(l, tt.addr)), pageOf(web.Options{State: rcv.State}), nil, rcv, nil)
			for _, path := range []string{"/", "/page.js", "/metrics", "/api/search", "/api/health"} {
				for who, want := range map[string]string{"": tt.stranger, "ann": tt.ann} {
					r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8514"+path, nil)
					if who != "" {
						r.SetBasicAuth(who, "correct horse")
					}
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					if got := w.Result().Status; got != want {
						t.Errorf("%q, %s: got %s, want %s", who, path, got, want)
					}
				}
			}
			var log strings.Builder
			if c.logPageAccess(slog.New(slog.NewTextHandler(&log, nil)), "/", l,
				tt.addr); !strings.Contains(log.String(), tt.said) {
				t.Errorf("it says %s", &log)
			}
		})
	}
}
