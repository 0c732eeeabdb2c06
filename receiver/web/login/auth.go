// Package login authenticates requests for what wsreceive shows to users and to
// Prometheus: the page, its API, and metrics.
//
// # Guarantees
//
//  1. A request is answered only if its Host is a name of this host: a foreign page
//     cannot use a name of its own that resolves to our address (DNS rebinding).
//     The names are localhost, those of our certificate, and [Policy].Hosts; an IP
//     address is always accepted, because no name has to resolve to it.
//  2. Without users, only clients on this machine are admitted, and only without a
//     proxy in between; other clients see how to configure users.
//  3. With users, every request needs the password of one of them (HTTP Basic); the
//     time of the comparison reveals nothing.
//  4. Guessing passwords is slow, and costs little CPU: an address has ten tries for
//     a user, and then one each ten seconds; at most two passwords are hashed at a
//     time. Guesses delay neither a user who has logged in nor one at another
//     address. Behind a proxy the address is the one that the proxy names.
//  5. A connection with a valid password counts no longer as unauthenticated
//     (package connlimit).
//  6. When the policy changes, running requests end, live views too, so a user who
//     was removed sees nothing more.
package login

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"wsrelay/internal/connlimit"
)

// Policy says which requests are admitted.
type Policy struct {
	Users   Users             // nil: no authentication
	Proxied bool              // requests come through a proxy, which names their client in X-Forwarded-For
	Local   bool              // only this machine can reach us: without users every request is admitted
	Hosts   []string          // names of this host, without port
	Cert    *x509.Certificate // its names are ours, too; nil: none
}

// Auth admits requests by a policy. Its methods may be called concurrently.
type Auth struct {
	state atomic.Pointer[state]
	tries tries
}

// state is a policy, and what was found out under it.
type state struct {
	Policy
	known *known
	ctx   context.Context // ends with the policy
	end   context.CancelFunc
}

// New makes an Auth.
func New(p Policy) *Auth {
	g := &Auth{tries: newTries()}
	g.Set(p)
	return g
}

// Set has another policy hold from now on.
func (g *Auth) Set(p Policy) {
	s := &state{Policy: p, known: newKnown()}
	s.ctx, s.end = context.WithCancel(context.Background())
	if old := g.state.Swap(s); old != nil {
		old.end()
	}
}

// Before returns a handler that answers requests that are not admitted, and passes
// the others to h.
func (g *Auth) Before(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := g.state.Load()
		switch {
		case s.Users == nil && !s.Local:
			http.Error(w, "This page is closed. Make a user with \"wsreceive passwd NAME >>FILE\",\n"+
				"and start wsreceive with --page-users FILE.", http.StatusForbidden)
		case !s.names(r.Host):
			http.Error(w, "This is not a name of this wsreceive. Use localhost, an address, or a name of its certificate;\n"+
				"--page-hosts adds a name.", http.StatusMisdirectedRequest)
		case s.Users == nil:
			s.serve(h, w, r, "")
		default:
			if user, ok := g.login(w, r, s); ok {
				connlimit.AdmitFrom(r.Context())
				s.serve(h, w, r, user)
			}
		}
	})
}

// Admits reports whether a request would be admitted. It is for answers that every
// client gets, but with less in them for an unauthenticated one.
func (g *Auth) Admits(r *http.Request) bool {
	s := g.state.Load()
	switch {
	case !s.names(r.Host):
		return false
	case s.Users == nil:
		return s.Local
	}
	_, status := g.authenticate(r, s)
	return status == http.StatusOK
}

// serve has h answer, for as long as the policy holds.
func (s *state) serve(h http.Handler, w http.ResponseWriter, r *http.Request, user string) {
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), userKey{}, user))
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	h.ServeHTTP(w, r.WithContext(ctx))
}

type userKey struct{}

// User gives the user who has got in with a request; empty: nobody was asked.
func User(r *http.Request) string {
	user, _ := r.Context().Value(userKey{}).(string)
	return user
}

// names reports whether a Host header names us.
func (p *Policy) names(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost") ||
		slices.ContainsFunc(p.Hosts, func(h string) bool { return strings.EqualFold(h, host) }) ||
		p.Cert != nil && host != "" && p.Cert.VerifyHostname(host) == nil
}
