package wsreceive

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wsrelay/internal/cli"
	"wsrelay/internal/cli/options"
	"wsrelay/internal/connlimit"
	"wsrelay/internal/metrics"
	"wsrelay/receiver"
	"wsrelay/receiver/web/login"
)

type serveCmd struct {
	Listen  string `default:"127.0.0.1:8514" placeholder:"ADDR" help:"Address to listen on; port 0 takes any free port. An address beyond loopback needs TLS, and keys, tokens or client certificates. Default: ${default}."`
	To      string `default:"${logs}" placeholder:"STORE" help:"Store for lines: ${stores}. Default: ${default}."`
	Journal string `default:"${journal}" placeholder:"DIR" help:"Directory of the journal, in which lines wait until a VictoriaLogs server has them on disk. Default: ${default}."`
	Retain  retain `placeholder:"LIMIT" help:"Largest age of lines in the log database, its largest size, or both: 30d, 50GiB, or 30d,50GiB. The oldest days are deleted first. Default: no limit."`
	Memory  size   `placeholder:"SIZE" help:"Soft limit of memory with the log database. Default: 512MiB, or three quarters of what its control group, as of a container, allows if that is less."`
	engineOptions
	DeadFile string `placeholder:"FILE" help:"File for dead letters that the engine refuses as well, up to 64 MiB. Default: none, their lines wait with their senders."`
	dialOptions
	authOptions
	pageOptions
	stateOptions
	Metrics   string `placeholder:"ADDR" help:"Also serve metrics at http://ADDR/metrics, without authentication. An address beyond loopback needs --allow-insecure."`
	LogLevel  string `default:"info" enum:"debug,info,warn,error" help:"Lowest level that is logged: debug, info, warn, error. Default: ${default}."`
	LogFormat string `default:"text" enum:"text,json" help:"Format of the log: text, json. Default: ${default}."`

	Config options.File `placeholder:"FILE" env:"WSRECEIVE_CONFIG" help:"Read options from FILE, one 'name = value' a line, then from FILE.d/*.conf."`
}

// Help is shown below the options.
func (*serveCmd) Help() string {
	return `A name in the file of --keys can have two keys, on two lines. So a key can be replaced while its sender continues.

A relay that wsreceive dials (--dial) authenticates with a key of --keys, or with a certificate that --client-ca or, by default, an authority of the system has signed. wsreceive shows it --tls-cert, if the relay asks for a certificate.

The page and /metrics of --listen need no authentication on a loopback address. Beyond it, and with --behind-proxy, they are closed until --page-users names users. wsreceive passwd and htpasswd -B make their lines.

Close to the limit of --memory wsreceive uses more CPU. What is in use has priority: thousands of senders take more.`
}

// load reads what the options name.
func (c *serveCmd) load(log *slog.Logger) (*loaded, error) {
	l, err := c.authOptions.load(log)
	if err == nil {
		l.dial, err = c.dialConfig(l, log)
	}
	if err == nil {
		l.users, err = c.users(log)
	}
	return l, err
}

// Run receives until ctx ends, or stdout does when it is the store.
func (c *serveCmd) Run(ctx context.Context, to *streams) (err error) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // one that comes while we start is no reason to end
	defer signal.Stop(hangup)
	if err := c.dialOptions.check(); err != nil {
		return err
	}
	if err := c.authOptions.check(c.Listen, len(c.Dial) > 0); err != nil {
		return err
	}
	if err := errors.Join(c.checkMetrics(), c.pageOptions.check(c.To)); err != nil {
		return err
	}
	log := c.logger(to.err)
	if c.Config != "" && withoutPassword(c.To) != c.To {
		warnReadable(string(c.Config), log)
	}
	who, err := c.load(log)
	if err != nil {
		return &cli.Error{
			Err: fmt.Errorf("cannot load keys, tokens or certificates: %w", err), Effect: nothingReceived,
			Hint: "wsrelay keygen makes lines for --keys", Code: exitConfig,
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stdout := &stdoutWriter{w: to.out, gone: func(err error) { cancel(stdoutGone(err)) }}
	store, err := c.openWhenFree(ctx, stdout, log)
	if ctx.Err() != nil && err != nil {
		return nil // while it waited
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return &cli.Error{
			Err: fmt.Errorf("cannot listen: %w", err), Code: 1,
			Effect: nothingReceived, Hint: "another wsreceive may be running; --listen takes another address",
		}
	}
	store, pageOf := storeAndPage(store)
	rcv := receiver.New(store, receiver.Options{
		Log: log, Access: who.Access, Streams: c.MaxStreams,
		Trouble: c.thresholds(),
	})
	url := "ws://" + ln.Addr().String() + "/relay"
	ln = connlimit.New(ln, maxUnauthenticated, authTimeout)
	var current atomic.Pointer[loaded]
	if current.Store(who); who.tls != nil {
		url = "wss" + strings.TrimPrefix(url, "ws")
		ln = tls.NewListener(ln, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.Load().tls, nil }})
	}
	relays, err := c.dialers(rcv, func() receiver.DialConfig { return current.Load().dial })
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	_, guarantee := store.Describe()
	log.Info("listening", "url", url, "store", withoutPassword(c.To), "guarantee", guarantee, "senders", who.describe())
	auth := login.New(c.policy(who, ln.Addr()))
	c.logPageAccess(log, "http"+strings.TrimSuffix(strings.TrimPrefix(url, "ws"), "relay"), who, ln.Addr())
	reload := func() {
		who, err := c.load(log)
		if err != nil {
			log.Error("cannot reload the keys, tokens and certificates", "err", err,
				cli.Effect, "none: the previous ones stay in use", cli.Hint, "fix the file and send SIGHUP again")
			return
		}
		current.Store(who)
		rcv.SetAccess(who.Access)
		auth.Set(c.policy(who, ln.Addr()))
		relays.retry()
		log.Info("reloaded", "senders", who.describe(), "certificate_until", who.expiry())
	}
	defer background(context.Background(), func(ctx context.Context) { // also while sessions end
		for {
			select {
			case <-hangup:
				reload()
			case <-ctx.Done():
				return
			}
		}
	})()
	dialling, stopDialling := context.WithCancel(ctx)
	defer relays.run(dialling)()
	defer stopDialling()
	defer background(ctx, rcv.KeepSenders)()
	if c.Metrics != "" {
		defer background(ctx, func(ctx context.Context) {
			metrics.Serve(ctx, c.Metrics, metricsOf(rcv, store), log)
		})()
	}
	page := pageHandler(auth, pageOf(c.webOptions(store, rcv)), store, rcv, relays)
	if err := serve(ctx, ln, rcv, page, readyHandler(auth, rcv), log); err != nil {
		return err
	}
	if c := (*cli.Error)(nil); errors.As(context.Cause(ctx), &c) {
		return c
	}
	log.Info("stopped")
	return nil
}

// serve answers on ln until ctx ends, then lets the sessions end cleanly.
func serve(ctx context.Context, ln net.Listener, rcv *receiver.Receiver, page, ready http.Handler,
	log *slog.Logger,
) error {
	mux := http.NewServeMux()
	mux.Handle("GET /", page)
	mux.Handle("POST /select/", page)
	mux.Handle("GET /relay", rcv)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	for _, path := range []string{"/readyz", "/healthz", "/health"} { // the last is that of VictoriaLogs
		mux.Handle("GET "+path, ready)
	}
	srv := &http.Server{
		Handler:           crashOnPanic(mux),
		ConnContext:       connlimit.Context,
		WriteTimeout:      time.Minute, // of an answer; the page gives some longer
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { failed <- srv.Serve(ln) })
	defer wg.Wait()

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("shutting down")
	}
	rcv.Shutdown()
	return errors.Join(err, srv.Close())
}

// crashOnPanic has h answer in goroutines of its own. In its own ones net/http would hide
// a panic and continue, with whatever is locked or counted by half. Here it ends the
// process, as in a session, and another begins with nothing but what is stored.
func crashOnPanic(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer sync.WaitGroup
		answer.Go(func() { h.ServeHTTP(w, r) })
		answer.Wait()
	})
}

// nothingReceived is what it means for the logs when wsreceive cannot start.
const nothingReceived = "nothing is received; senders keep their lines and try again"

// How many connections may be open that have not proved anything, and how long
// each may be when that is not enough.
const (
	maxUnauthenticated = 512
	authTimeout        = 2 * time.Second
)

// background runs a goroutine whose context ends with ctx or with stop, which waits
// for it.
func background(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { run(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

func (c *serveCmd) logger(w io.Writer) *slog.Logger { return newLogger(w, c.LogLevel, c.LogFormat) }

func newLogger(w io.Writer, name, format string) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(name)) // kong has checked it; info before that
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(cli.For(w, "wsreceive", level))
}

// stdoutWriter notices when nobody reads any more.
type stdoutWriter struct {
	w    io.Writer
	gone func(error)
}

func (s *stdoutWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		s.gone(err)
	}
	return n, err
}

func stdoutGone(err error) error {
	return &cli.Error{
		Err: fmt.Errorf("the reader of stdout is gone: %w", err), Code: 1,
		Effect: "lines without a receipt stay with their senders",
		Hint:   "start wsreceive again together with what reads it",
	}
}
