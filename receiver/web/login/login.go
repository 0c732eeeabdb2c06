package login

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// login gives the user whose password the request has; if it has none, it has been
// answered.
func (g *Auth) login(w http.ResponseWriter, r *http.Request, s *state) (user string, ok bool) {
	user, status := g.authenticate(r, s)
	switch status {
	case http.StatusOK:
		return user, true
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "Too many wrong passwords for this user from this address. Wait a moment.", status)
	default:
		w.Header().Set("WWW-Authenticate", `Basic realm="wsreceive", charset="UTF-8"`)
		http.Error(w, "A user name and a password are required.", status)
	}
	return "", false
}

// authenticate gives the user whose password the request has, with status 200.
func (g *Auth) authenticate(r *http.Request, s *state) (user string, status int) {
	name, password, ok := r.BasicAuth()
	if ok && s.known.has(name, password) {
		return name, http.StatusOK
	}
	from := s.tryOf(r, name)
	switch {
	case !ok:
	case !g.tries.allow(from, time.Now()):
		return "", http.StatusTooManyRequests
	case g.tries.check(r.Context(), s.Users, name, password):
		g.tries.refund(from)
		s.known.add(name, password)
		return name, http.StatusOK
	}
	return "", http.StatusUnauthorized
}

// try is whom tries are counted against: an address, or the network that one
// customer has of IPv6, and the user whose password it is to be. So nobody keeps
// another user out, nor the same user elsewhere.
type try struct {
	from netip.Addr
	user string // empty: none that exists
}

func (p *Policy) tryOf(r *http.Request, name string) try {
	if _, ok := p.Users[name]; !ok {
		name = ""
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	addr, _ := netip.ParseAddr(host)
	if hops := r.Header.Values("X-Forwarded-For"); p.Proxied && len(hops) > 0 {
		// The last hop is what our proxy has seen; what stands before it, anybody can
		// have written.
		last := hops[len(hops)-1]
		if hop, err := netip.ParseAddr(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])); err == nil {
			addr = hop
		}
	}
	if addr = addr.WithZone("").Unmap(); addr.Is6() {
		network, _ := addr.Prefix(64)
		addr = network.Addr()
	}
	return try{addr, name}
}

// How many passwords may be tried.
const (
	eachTry    = 10 * time.Second // that a wrong one costs
	mostTries  = 10               // that an address may owe for a user
	hashing    = 2                // at the same time, over all addresses
	maxSources = 10_000           // that are remembered
)

// tries bounds what trying passwords costs us, and gains.
type tries struct {
	hashing chan struct{}

	mu    sync.Mutex        // guards owing
	owing map[try]time.Time // until when
}

func newTries() tries {
	return tries{hashing: make(chan struct{}, hashing), owing: map[try]time.Time{}}
}

// allow counts a try, if there is one left.
func (t *tries) allow(from try, now time.Time) bool {
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

// refund forgets a try: the password was right.
func (t *tries) refund(from try) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owing[from] = t.owing[from].Add(-eachTry)
}

// check hashes a password, when its turn has come. It takes the same time for each
// user, whatever the cost of his hash, and for a name that is nobody's: that of the
// highest cost.
func (t *tries) check(ctx context.Context, users Users, name, password string) bool {
	select {
	case t.hashing <- struct{}{}:
		defer func() { <-t.hashing }()
	case <-ctx.Done():
		return false
	}
	highest := 0
	for _, hash := range users {
		highest = max(highest, costOf(hash))
	}
	hash, ok := users[name]
	if !ok {
		return compare(dummy(highest), []byte(password)) == nil && ok
	}
	err := compare(hash, []byte(password))
	for c := costOf(hash); c < highest; c++ { // each step doubles the time: together that of the highest
		_ = compare(dummy(c), []byte(password))
	}
	return err == nil
}

var compare = bcrypt.CompareHashAndPassword // but for tests

func costOf(hash []byte) int {
	c, _ := bcrypt.Cost(hash) // ParseUsers has looked
	return c
}

// dummy is a hash of a cost, that of no password that is known.
func dummy(cost int) []byte {
	return fmt.Appendf(nil, "$2a$%02d$......................%s", cost, strings.Repeat(".", 31))
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
