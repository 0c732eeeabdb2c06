package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

// Check connects to a receiver up to its welcome and leaves again, without a line and
// under a stream identity of its own, so that it disturbs no relay. It
// reports what it found at each step: files, dns, tcp, proxy, tls, upgrade,
// handshake, ready, as far as the connection has it. A fault is of the step that it
// returns.
func Check(ctx context.Context, o Options, address string, report func(step,
	found string),
) (step string, fault *Fault) {
	u, err := o.address(address)
	if err != nil {
		return "url", Permanent("this is not an address", "wss://HOST/relay", err)
	}
	c := &check{o: o, u: u, step: "files", report: report}
	fault = c.run(ctx)
	return c.step, fault
}

// check is one attempt under observation.
type check struct {
	o      Options
	u      *url.URL
	with   *credentials
	step   string // that is under way
	report func(step, found string)
}

// stepDone reports the step that is under way, and begins the next.
func (c *check) stepDone(what, next string) {
	if what != "" {
		c.report(c.step, what)
	}
	c.step = next
}

func (c *check) run(ctx context.Context) (fault *Fault) {
	if c.with, fault = c.o.Dial.ready(c.u); fault != nil {
		return fault
	}
	c.stepDone(c.files(), "tcp")
	c.o.Log = slog.New(slog.DiscardHandler)
	r := New(noQueue{}, c.o)
	r.net = c.dial
	conn, wire, fault := r.dial(httptrace.WithClientTrace(ctx, c.trace()), c.u, c.with)
	if fault != nil {
		if refused, ok := errors.AsType[*tls.CertificateVerificationError](fault); ok {
			c.report(c.step, describe(refused.UnverifiedCertificates[0]))
		}
		return fault
	}
	if d := c.o.Dialect; d != nil {
		c.stepDone("the server speaks WebSocket", "plain")
		l := r.link(conn, wire, c.u)
		return l.lend(ctx, func(ctx context.Context) (fault *Fault) {
			found, fault := d.Probe(ctx, l)
			c.stepDone(found, c.step)
			return fault
		})
	}
	c.stepDone("the server speaks "+handshake.Subprotocol, "handshake")
	s := newSession(r, conn, wire, c.u, handshake.NewSID(), c.with.key)
	if fault := s.run(ctx, func(context.Context) *Fault { return nil }); fault != nil {
		if s.peerErr != nil && s.peerErr.Code == handshake.CloseForbidden {
			fault.Hint += "; a key for certain streams only (sid=) is refused here, because this check has a stream of its own, but can be valid for the relay"
		}
		return fault
	}
	if s.granted == nil {
		return Transient("no welcome in time", hintServer, ctx.Err())
	}
	c.stepDone(fmt.Sprintf("%s; the store is %s, %s", proved(s), clean(s.granted.Store), clean(s.granted.Guarantee)),
		"ready")
	found, fault := r.ready(ctx, c.u, c.with)
	c.stepDone(found, c.step)
	return fault
}

// files lists what was read, and what is to be fixed about it.
func (c *check) files() string {
	var all []string
	if c.with.key != nil {
		all = append(all, fmt.Sprintf("key %q in %s", c.with.key.Name, c.o.Dial.KeyFile))
	}
	for _, f := range []struct{ is, name string }{
		{"token", c.o.Dial.TokenFile}, {"authorities", c.o.Dial.CAFile}, {"certificate", c.o.Dial.CertFile},
	} {
		if f.name != "" {
			all = append(all, f.is+" in "+f.name)
		}
	}
	for _, name := range c.with.exposed {
		all = append(all, "others can read "+name+": chmod 600")
	}
	return strings.Join(all, "; ")
}

// dial is the relay's, observed.
func (c *check) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := dialNet(ctx, network, addr)
	if err == nil {
		next := "upgrade"
		if c.u.Scheme == "wss" {
			next = "tls"
		}
		if c.with.proxy != nil {
			next = "proxy"
		}
		c.stepDone("connected to "+conn.RemoteAddr().String(), next)
	}
	return conn, err
}

// trace follows the dialer where nothing else does.
func (c *check) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { c.step = "dns" },
		DNSDone: func(i httptrace.DNSDoneInfo) {
			if i.Err == nil {
				var all []string
				for _, a := range i.Addrs {
					all = append(all, a.String())
				}
				c.stepDone(strings.Join(all, ", "), "tcp")
			}
		},
		GotConn: func(httptrace.GotConnInfo) {
			if c.with.proxy != nil {
				c.stepDone("the proxy "+c.with.proxy.Host+" connects us to "+c.u.Host, "upgrade")
			}
		},
		TLSHandshakeStart: func() { c.step = "tls" },
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil {
				c.stepDone(tls.VersionName(state.Version)+", "+describe(state.PeerCertificates[0]), "upgrade")
			}
		},
	}
}

// describe is what a certificate says.
func describe(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return fmt.Sprintf("certificate for %s, by %s, until %s (%d days), pin %s",
		clean(strings.Join(names, " ")), clean(cert.Issuer.String()), cert.NotAfter.UTC().Format(time.DateOnly),
		int(time.Until(cert.NotAfter).Hours()/24), Pin(cert))
}

// proved is what the handshake of s has shown.
func proved(s *session) string {
	switch {
	case s.key == nil:
		return "welcome, and no key was asked for"
	case s.transcript.Binding != nil:
		return fmt.Sprintf("both ends proved the key %q over this very TLS connection", s.key.Name)
	}
	return fmt.Sprintf("both ends proved the key %q; TLS, if any, ends before the receiver", s.key.Name)
}

// noQueue is the queue of a relay that only says hello: no other method is called.
type noQueue struct{ Queue }

func (noQueue) Stats() buffer.Stats { return buffer.Stats{Cursor: 1, Head: 1} }
