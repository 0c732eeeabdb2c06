package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// readyAnswer is what is read of an answer, in bytes.
const readyAnswer = 4 << 10

// ready asks a receiver, beside its WebSocket, whether it would store lines now. A
// receiver that is not ours, or what stands before it, may not know the path; then
// found reads "not known".
func (r *Relay) ready(ctx context.Context, u *url.URL, with *credentials) (found string, fault *Fault) {
	ctx, cancel := context.WithTimeout(ctx, r.pace.dial)
	defer cancel()
	at := *u.ResolveReference(&url.URL{Path: "readyz"})
	at.Scheme = "http" + strings.TrimPrefix(u.Scheme, "ws")
	status, answer, err := r.get(ctx, &at, with)
	answer = clean(strings.TrimSpace(answer))
	switch {
	case err != nil:
		return "not known: " + dialFault(err).Error(), nil
	case status == http.StatusOK:
		return "the receiver can store lines", nil
	case status != http.StatusServiceUnavailable || !strings.HasPrefix(answer, "not ready"):
		return fmt.Sprintf("not known: %s answers HTTP %d", at.Path, status), nil
	}
	return "", Transient("the receiver cannot store lines now",
		"the log of wsreceive says why; so does "+at.Path+" there, to users of the page", errors.New(answer))
}

// get asks for u by the same way as a WebSocket goes. An http.Client would add more
// than a megabyte to the program.
func (r *Relay) get(ctx context.Context, u *url.URL, with *credentials) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return 0, "", err
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	conn, err := with.connect(ctx, dialNet, addr, func(net.Conn) {})
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = conn.Close() }() // it was only read
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if u.Scheme == "https" {
		conf := with.tls.Clone()
		if conf.ServerName == "" {
			conf.ServerName = u.Hostname()
		}
		conf.NextProtos = []string{"http/1.1"}
		secured := tls.Client(conn, conf)
		if err := secured.HandshakeContext(ctx); err != nil {
			return 0, "", err
		}
		conn = secured
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, readyAnswer))
	return resp.StatusCode, string(text), err
}
