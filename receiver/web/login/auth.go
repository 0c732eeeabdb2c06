// Package login stands before what wsreceive shows to people and to Prometheus:
// the page, what it asks, and metrics.
//
// # What holds
//
//  1. Only who names this host as expected is answered: a foreign page cannot get
//     in by a name of its own that leads to our address (DNS rebinding). Names are
//     localhost, those of our certificate, and [Policy].Hosts; any IP address will
//     do, for no name is needed to lead there.
//  2. Without users, only who reaches an address of this machine alone gets in,
//     with no proxy in between; any other client is shown how to open it.
//  3. With users, nobody gets in without the password of one of them (HTTP Basic),
//     compared in a time that tells nothing.
//  4. Trying passwords is slow, and costs us little: an address has ten tries for a
//     user, and then one each ten seconds; of all together two passwords are hashed
//     at a time. Who has got in once is not held up by those who try, nor is anybody
//     at another address. Behind a proxy the address is the one that the proxy names.
//  5. Who has got in with a password is no stranger any more: his connection gives
//     its place at the door to the next (package door).
//  6. When the policy changes, what is being answered ends, live views too, so who
//     is no user any more sees nothing more.
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

// Policy says who gets in.
type Policy struct {
	Users   Users             // nil: nobody is asked
	Proxied bool              // requests come through a proxy, which names in X-Forwarded-For whom it has them from
	Local   bool              // only this machine can reach us: without users everybody gets in
	Hosts   []string          // names, without port, under which we may be asked
	Cert    *x509.Certificate // its names are ours, too; nil: none
}

// Auth is the gate. Its methods may be called concurrently.
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

// New makes a gate.
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

// Before gives a handler that answers for h whom the gate does not let in.
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
			s.let(h, w, r, "")
		default:
			if user, ok := g.login(w, r, s); ok {
				connlimit.AdmitFrom(r.Context())
				s.let(h, w, r, user)
			}
		}
	})
}

// Admits reports whether the gate would let a request in. It is for what anybody
// may ask, where unauthenticated clients learn less.
func (g *Auth) Admits(r *http.Request) bool {
	s := g.state.Load()
	switch {
	case !s.names(r.Host):
		return false
	case s.Users == nil:
		return s.Local
	}
	_, status := g.proved(r, s)
	return status == http.StatusOK
}

// let has h answer, for as long as the policy holds.
func (s *state) let(h http.Handler, w http.ResponseWriter, r *http.Request, user string) {
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
