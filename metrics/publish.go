package metrics

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Handler answers with what write writes.
func Handler(write func(*Text)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var t Text
		write(&t)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(t.Bytes())
	})
}

// Local lets nobody in who asks for a name that is not this machine's: a web
// page that has its own name lead to 127.0.0.1 could read along otherwise.
func Local(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && host != "localhost" {
			http.Error(w, "Ask for this by address.", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// WriteFile puts what write writes into a file for the node exporter's textfile
// collector: at no moment is it half there. Others may read it.
func WriteFile(name string, write func(*Text)) error {
	var t Text
	write(&t)
	next := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".next") // not *.prom: the collector passes it by
	err := os.WriteFile(next, t.Bytes(), 0o644)
	if err == nil {
		err = os.Chmod(next, 0o644) // whatever the umask is
	}
	if err == nil {
		err = os.Rename(next, name)
	}
	return err
}
