package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// ParseURL reads the address of a receiver: ws://host or wss://host, with a
// port and a path if necessary. A secret has no place in it, for addresses are
// logged.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("URL: %w", redact(err))
	}
	// What is after these, and what an @ is part of, may be a secret.
	name := fmt.Sprintf("URL %q", s[:strings.IndexAny(s+"?", "?#")])
	if strings.Contains(s, "@") {
		name = "URL"
	}
	switch {
	case u.User != nil:
		return nil, errors.New("URL: a user or password in a URL ends up in logs; use --token-file or --key-file")
	case u.Scheme == "http":
		return nil, fmt.Errorf("%s: write ws:// instead of http://", name)
	case u.Scheme == "https":
		return nil, fmt.Errorf("%s: write wss:// instead of https://", name)
	case u.Scheme != "ws" && u.Scheme != "wss":
		return nil, fmt.Errorf("%s: want ws://HOST or wss://HOST, for example wss://logs.example.com/relay", name)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%s: no host; want ws://HOST or wss://HOST", name)
	case u.Fragment != "":
		return nil, fmt.Errorf("%s: a WebSocket URL has no #fragment", name)
	}
	return u, nil
}

// address reads the address of a receiver; one of ours is at /relay unless it
// says otherwise.
func (o *Options) address(s string) (*url.URL, error) {
	u, err := ParseURL(s)
	if err == nil && u.Path == "" && o.Dialect == nil {
		u.Path = "/relay"
	}
	return u, err
}

// subprotocol is what the server must agree to; "": none.
func (o *Options) subprotocol() string {
	if o.Dialect != nil {
		return o.Dialect.Subprotocol()
	}
	return handshake.Subprotocol
}

// shown is u as logs and status have it: without the query, which may hold
// what nobody else should read.
func logURL(u *url.URL) string {
	c := *u
	c.RawQuery = ""
	return c.String()
}

// redact takes the URL, which may hold a secret, out of an error of url.Parse.
func redact(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// frameBytes is the largest message that leaves in one WebSocket frame: any
// batch but a single line longer than that, which is continued in further
// frames. Simple receivers do not join frames; those offer a small
// welcome.max and get none.
const frameBytes = maxBatch + headerRoom

var frameBuffers sync.Pool

// dial opens a WebSocket to u that agrees to our subprotocol.
func (r *Relay) dial(ctx context.Context, u *url.URL, with *credentials) (*websocket.Conn, *wire, *Fault) {
	stop := func() bool { return true }
	// The dialer does not look at ctx while it waits for the answer.
	begun := func(c net.Conn) { stop = context.AfterFunc(ctx, func() { c.Close() }) }
	d := websocket.Dialer{
		TLSClientConfig:  with.tls,
		HandshakeTimeout: r.pace.dial,
		WriteBufferSize:  frameBytes,
		WriteBufferPool:  &frameBuffers,
		NetDialContext: func(brief context.Context, _, addr string) (net.Conn, error) {
			c, err := with.connect(brief, r.net, addr, begun)
			return &wire{Conn: c}, err
		},
	}
	wanted := r.o.subprotocol()
	if wanted != "" {
		d.Subprotocols = []string{wanted}
	}
	conn, resp, err := d.DialContext(ctx, u.String(), with.header)
	stop()
	if err != nil {
		if resp != nil && errors.Is(err, websocket.ErrBadHandshake) &&
			resp.StatusCode != http.StatusSwitchingProtocols {
			fault := statusFault(resp)
			if resp.StatusCode == http.StatusUpgradeRequired && r.o.Dialect != nil {
				fault.Hint = "if it is wsreceive, leave out --mode plain; else look at --plain-subprotocol"
			}
			return nil, nil, fault
		}
		return nil, nil, dialFault(err)
	}
	conn.SetReadLimit(handshake.MaxControl)
	var fault *Fault
	switch {
	case conn.Subprotocol() != wanted && r.o.Dialect == nil:
		fault = Permanent("this server does not speak "+wanted,
			"check that the URL leads to wsreceive; for any other WebSocket server use --mode plain", nil)
	case conn.Subprotocol() != wanted:
		fault = Permanent("this server speaks another subprotocol", "look at --plain-subprotocol",
			fmt.Errorf("it is %q, we want %q", clean(conn.Subprotocol()), wanted))
	case resp.Header.Get("Sec-WebSocket-Extensions") != "":
		fault = protocolError(0, errors.New("it turns on an extension that was not offered"))
	default:
		return conn, wireOf(conn.NetConn()), nil
	}
	conn.Close()
	return nil, nil, fault
}
