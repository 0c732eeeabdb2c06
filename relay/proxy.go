package relay

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// connect opens a connection to addr, through the HTTP proxy if there is one (CONNECT,
// RFC 9110, 9.3.6). begun is called with the TCP connection as soon as it is there.
func (c *credentials) connect(ctx context.Context, dial netDial, addr string, begun func(net.Conn)) (net.Conn, error) {
	host := addr
	if c.proxy != nil {
		host = net.JoinHostPort(c.proxy.Hostname(), cmp.Or(c.proxy.Port(), "80"))
	}
	conn, err := dial(ctx, "tcp", host)
	if err != nil && c.proxy != nil {
		f := dialFault(err)
		f.What = "the proxy " + host + ": " + f.What
		return nil, f
	}
	if err != nil {
		return nil, err
	}
	begun(conn)
	if c.proxy == nil {
		return conn, nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if err := connectTo(conn, c.proxy, addr); err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// maxProxyAnswer is what the head of a proxy's answer may have, in bytes.
const maxProxyAnswer = 16 << 10

func connectTo(c net.Conn, proxy *url.URL, addr string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := req.Write(c); err != nil {
		return err
	}
	r := bufio.NewReader(io.LimitReader(c, maxProxyAnswer))
	resp, err := http.ReadResponse(r, req)
	switch {
	case err != nil:
		return fmt.Errorf("the proxy's answer: %w", err)
	case resp.StatusCode == http.StatusOK && r.Buffered() == 0:
		return nil
	case resp.StatusCode == http.StatusOK: // the other side waits for us to speak
		return errors.New("the proxy says more than its answer")
	}
	return proxyFault(resp.StatusCode, addr)
}

// proxyFault explains why the proxy does not connect us.
func proxyFault(status int, addr string) *Fault {
	what := fmt.Sprintf("the proxy answered HTTP %d", status)
	switch {
	case status == http.StatusProxyAuthRequired:
		return Permanent(what+": it requires credentials, or other ones",
			"put user and password into the proxy's URL, in the environment or in the file of --config", nil)
	case status >= 500 || status == http.StatusTooManyRequests:
		return Transient(what+": it cannot reach "+addr, "check that the receiver runs, and the proxy's log", nil)
	}
	return Permanent(what+": it refuses to connect us to "+addr, "have the proxy allow CONNECT to this host and port", nil)
}
