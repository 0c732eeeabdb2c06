package gate

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// login reports whether the request has the password of a user; if not, it has
// been answered.
func (g *Gate) login(w http.ResponseWriter, r *http.Request, s *state) bool {
	name, password, ok := r.BasicAuth()
	if ok && s.known.has(name, password) {
		return true
	}
	from := source(r.RemoteAddr)
	switch {
	case !ok:
	case !g.tries.take(from, time.Now()):
		w.Header().Set("Retry-After", "10")
		http.Error(w, "Too many wrong passwords have come from this address. Wait a moment.", http.StatusTooManyRequests)
		return false
	case g.tries.check(r.Context(), s.Users, name, password):
		g.tries.giveBack(from)
		s.known.add(name, password)
		return true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="wsreceive", charset="UTF-8"`)
	http.Error(w, "A name and a password are wanted here.", http.StatusUnauthorized)
	return false
}

// source is whom tries are counted against: an address, or the network that one
// customer has of IPv6.
func source(remote string) netip.Addr {
	host, _, _ := net.SplitHostPort(remote)
	addr, _ := netip.ParseAddr(host)
	if addr = addr.WithZone("").Unmap(); addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.Addr()
	}
	return addr
}

// How many passwords may be tried.
const (
	eachTry    = 10 * time.Second // that a wrong one costs
	mostTries  = 10               // that an address may owe
	hashing    = 2                // at the same time, over all addresses
	maxSources = 10_000           // that are remembered
)

// tries bounds what trying passwords costs us, and gains.
type tries struct {
	hashing chan struct{}

	mu    sync.Mutex               // guards owing
	owing map[netip.Addr]time.Time // until when, by address
}

func newTries() tries {
	return tries{hashing: make(chan struct{}, hashing), owing: map[netip.Addr]time.Time{}}
}

// take counts a try, if the address has one left.
func (t *tries) take(from netip.Addr, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	until := t.owing[from]
	if until.Before(now) {
		until = now
	}
	if until.Sub(now) > (mostTries-1)*eachTry {
		return false
	}
	if len(t.owing) >= maxSources {
		clear(t.owing) // what is hashed is bounded in any case
	}
	t.owing[from] = until.Add(eachTry)
	return true
}

// giveBack forgets a try: the password was right.
func (t *tries) giveBack(from netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owing[from] = t.owing[from].Add(-eachTry)
}

// check hashes a password, when its turn has come. Who does not exist is found
// out in the time that somebody's wrong password takes.
func (t *tries) check(ctx context.Context, users Users, name, password string) bool {
	select {
	case t.hashing <- struct{}{}:
		defer func() { <-t.hashing }()
	case <-ctx.Done():
		return false
	}
	hash, ok := users[name]
	if !ok {
		for _, hash = range users {
			break
		}
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && ok
}

// known are the passwords that have proved right, in a form that gives none away:
// hashing one for each part of the page would take longer than the page.
type known struct {
	key []byte

	mu     sync.Mutex // guards proved
	proved map[string][]byte
}

func newKnown() *known {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // it does not fail
	return &known{key: key, proved: map[string][]byte{}}
}

func (k *known) mac(password string) []byte {
	h := hmac.New(sha256.New, k.key)
	h.Write([]byte(password))
	return h.Sum(nil)
}

func (k *known) has(name, password string) bool {
	sum := k.mac(password)
	k.mu.Lock()
	defer k.mu.Unlock()
	return hmac.Equal(k.proved[name], sum)
}

func (k *known) add(name, password string) {
	sum := k.mac(password)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proved[name] = sum
}
