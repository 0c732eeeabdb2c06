package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"wsrelay/internal/connlimit"
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

// CheckAddr refuses an address that cannot be listened on and, unless insecure is set,
// one that other machines can reach: metrics are served without authentication.
func CheckAddr(addr string, insecure bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if insecure || connlimit.Loopback(host) {
		return nil
	}
	return fmt.Errorf("%s is not a loopback address, and anyone who can reach it could read how much is logged, and by whom", addr)
}

// Local refuses requests for a name that is not this machine's: otherwise a web page
// whose name resolves to 127.0.0.1 could read the metrics.
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

const (
	bindAgain = 10 * time.Second
	fileEvery = 15 * time.Second
)

// Serve answers GET /metrics on addr with what write writes, until ctx ends. If it cannot
// listen on the address, it tries again every 10 s, and logs it once: the rest of the
// program continues without metrics.
func Serve(ctx context.Context, addr string, write func(*Text), log *slog.Logger) {
	var ln net.Listener
	for warned := false; ln == nil; {
		var err error
		if ln, err = net.Listen("tcp", addr); err == nil {
			break
		}
		if !warned {
			warned = true
			log.Warn("cannot serve metrics", "addr", addr, "err", err,
				"effect", "none: lines are still delivered", "hint", "stop the program that uses the address, or choose another with --metrics")
		}
		select {
		case <-time.After(bindAgain):
		case <-ctx.Done():
			return
		}
	}
	h := Handler(write)
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		h = Local(h)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("serving metrics", "url", "http://"+ln.Addr().String()+"/metrics")
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		_ = srv.Close()
	})
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		log.Warn("metrics are not served any more", "addr", addr, "err", err,
			"effect", "none: lines are still delivered", "hint", "restart wsrelay to have them again")
	}
	wg.Wait()
}

// Keep writes the file name anew every 15 s, until ctx ends, and once more then:
// see WriteFile.
func Keep(ctx context.Context, name string, write func(*Text), log *slog.Logger) {
	tick := time.NewTicker(fileEvery)
	defer tick.Stop()
	warned := false
	for {
		err := WriteFile(name, write)
		if err != nil && !warned {
			log.Warn("cannot write metrics", "err", err,
				"effect", "none: lines are still delivered", "hint", "make the directory writable for wsrelay, or name another with --metrics-file")
		}
		warned = err != nil
		if ctx.Err() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// WriteFile puts what write writes into a file for the node exporter's textfile
// collector: at no moment is it half there. Others may read it. In a directory
// that others may write to, a link that they have put there leads nowhere.
func WriteFile(name string, write func(*Text)) error {
	var t Text
	write(&t)
	next := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".next") // not *.prom: the collector passes it by
	_ = os.Remove(next)                                                        // an earlier run has left it, or it is not ours
	f, err := os.OpenFile(next, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(t.Bytes())
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil { // whatever the umask is
		return err
	}
	return os.Rename(next, name)
}
