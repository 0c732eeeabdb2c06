package wsreceive

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"wsrelay/handshake"
	"wsrelay/internal/cli"
	"wsrelay/internal/connlimit"
	"wsrelay/receiver/store/logs"
)

// remoteOptions is the options for a wsreceive that is asked over the network.
type remoteOptions struct {
	URL          string `name:"url" placeholder:"URL" help:"Query the wsreceive of another host, https://HOST:PORT, instead of --to."`
	User         string `placeholder:"NAME" help:"Name of a user of --page-users there."`
	PasswordFile string `placeholder:"FILE" help:"File with that user's password in its first line."`
	TLSCA        string `name:"tls-ca" placeholder:"FILE" help:"Authorities (PEM) for the certificate of that host. Default: those of the system."`
}

// remoteDatabase is that of a wsreceive on another host, asked by what its page and
// the query API offer to everybody.
type remoteDatabase struct {
	http.Client
	base string
	user *url.Userinfo // nil: none
}

func (e *remoteOptions) connect(log *slog.Logger) (*remoteDatabase, error) {
	wrong := func(hint string, err error) error {
		return &cli.Error{Err: fmt.Errorf("--url: %w", err), Code: exitUsage, Hint: hint}
	}
	u, err := url.Parse(e.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, wrong("use https://HOST:PORT", fmt.Errorf("%q is not the URL of a wsreceive", u.Redacted()))
	case u.User != nil:
		return nil, wrong("use --user and --password-file", errors.New("others on this host could read a user and password in the command line"))
	case e.User != "" && u.Scheme == "http" && !connlimit.Loopback(u.Hostname()):
		return nil, wrong("use https://", errors.New("a password must not travel without TLS"))
	}
	transport := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	r := &remoteDatabase{http.Client{Transport: transport}, strings.TrimSuffix(u.String(), "/"), nil}
	if e.TLSCA != "" {
		if transport.TLSClientConfig.RootCAs, err = readAuthorities(e.TLSCA); err != nil {
			return nil, wrong("--tls-ca is a file with certificates", err)
		}
	}
	if e.User == "" {
		return r, nil
	}
	password, err := e.password(log)
	if err != nil {
		return nil, wrong("write it into a file that only you can read", err)
	}
	r.user = url.UserPassword(e.User, password)
	return r, nil
}

func (e *remoteOptions) password(log *slog.Logger) (string, error) {
	if e.PasswordFile == "" {
		return "", errors.New("--user needs --password-file")
	}
	if info, err := os.Stat(e.PasswordFile); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("others can read a secret", "file", e.PasswordFile,
			cli.Effect, "a user who reads it can see all lines", cli.Hint, "chmod 600")
	}
	text, err := os.ReadFile(e.PasswordFile)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return strings.TrimSuffix(string(line), "\r"), err
}

// get implements database.
func (r *remoteDatabase) get(ctx context.Context, path string, args url.Values) (io.ReadCloser, error) {
	body, err := post(ctx, &r.Client, r.base+path, args, r.user)
	return body, r.explain(err)
}

// explain adds what helps where the other end is not reached.
func (r *remoteDatabase) explain(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return &cli.Error{Err: err, Code: 1, Hint: "check the URL, and whether wsreceive runs there; --tls-ca names the certificate of one that signs itself"}
	}
	return err
}

// request asks the page there.
func (r *remoteDatabase) request(ctx context.Context, path string, args url.Values) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path+"?"+args.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	body, err := answered(&r.Client, req, r.user)
	return body, r.explain(err)
}

// lines implements database: those that are there come in one answer; of those that
// come later, which are looked for by the page, each is fetched.
func (r *remoteDatabase) lines(ctx context.Context, args url.Values, f func(*logs.Found) error) error {
	var events io.ReadCloser
	if args.Get("follow") == "true" { // first, so that none is missed in between
		var err error
		if events, err = r.request(ctx, "/api/tail", url.Values{"q": args["query"]}); err != nil {
			return err
		}
		defer events.Close()
	}
	body, err := r.get(ctx, "/select/lines", url.Values{"query": args["query"], "limit": args["limit"]})
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	err = each(body, func(l *logs.Found) error {
		if events != nil {
			seen[l.UID] = true
		}
		return f(l)
	})
	if err = errors.Join(err, body.Close()); err != nil || events == nil {
		return err
	}
	return r.follow(ctx, events, seen, f)
}

// fetch calls f with a line, whose text it gets first.
func (r *remoteDatabase) fetch(ctx context.Context, l *logs.Found, f func(*logs.Found) error) error {
	uid := l.UID
	if len(uid) > handshake.UIDLen { // of a gap: it is found by its first number
		uid = uid[:handshake.UIDLen]
	}
	body, err := r.request(ctx, "/api/raw", url.Values{
		"uid":  {uid},
		"time": {strconv.FormatInt(l.Time.UnixMilli(), 10)},
	})
	if err != nil {
		return err
	}
	l.Text, err = io.ReadAll(body)
	_ = body.Close()
	if err != nil {
		return fmt.Errorf("%w: %w", errEndsEarly, err)
	}
	err = f(l)
	l.Text = nil
	return err
}

// follow reads the events of the page's live view.
func (r *remoteDatabase) follow(ctx context.Context, events io.Reader, seen map[string]bool, f func(*logs.Found) error) error {
	for in := bufio.NewReader(events); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%w: %w", errEndsEarly, err)
		}
		data, ok := strings.CutPrefix(line, "data: {")
		if !ok {
			continue
		}
		var event struct {
			Skipped int
			Lines   []struct {
				UID  string
				Time int64
				Host string
			}
		}
		if err := json.Unmarshal([]byte("{"+data), &event); err != nil {
			return err
		}
		if event.Skipped > 0 {
			if err := f(logs.Skipped(event.Skipped)); err != nil {
				return err
			}
		}
		for _, one := range event.Lines {
			if seen[one.UID] {
				continue
			}
			if err := r.fetch(ctx, &logs.Found{UID: one.UID, Time: time.UnixMilli(one.Time), Host: one.Host},
				f); err != nil {
				return err
			}
		}
	}
}
