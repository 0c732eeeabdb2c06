package receiver

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// Access says who may send. Without keys, tokens and certificates, every client that can
// reach the receiver may send; with them, a sender needs one of them.
type Access struct {
	Keys         handshake.Secrets // proved in the handshake, both ways
	Tokens       handshake.Secrets // bearer tokens of the upgrade request
	Certificates bool              // TLS verifies those that senders show, against authorities of our own

	// CertificateHosts holds the certificate of a sender that has dialled us to the
	// DNS names in it, as a key is held to its hosts.
	CertificateHosts bool

	// Unbound is for a receiver behind a proxy that terminates TLS: it accepts senders
	// without TLS of its own, and binds no key to a connection.
	Unbound bool

	ReceiptSecret  []byte // of the receivers of one store; nil: receipts carry no token
	RequireReceipt bool   // refuse a stream that is not new and shows no receipt
}

func (a *Access) requiresProof() bool { return a.requiresProofDialled() || len(a.Tokens) > 0 }

// requiresProofDialled is requiresProof for a sender that we have dialled: it sent no request, and
// so no token.
func (a *Access) requiresProofDialled() bool { return len(a.Keys) > 0 || a.Certificates }

func (a *Access) requiresProofOf(s *session) bool {
	if s.dialled {
		return a.requiresProofDialled()
	}
	return a.requiresProof()
}

// identityOf is what the TLS of a sender that we have dialled proves.
func (a *Access) identityOf(conn *websocket.Conn) []identity {
	t, ok := conn.NetConn().(*tls.Conn)
	if !ok || !a.Certificates || len(t.ConnectionState().VerifiedChains) == 0 {
		return nil
	}
	return []identity{certified(t.ConnectionState(), false)}
}

func certified(state tls.ConnectionState, hosts bool) identity {
	cert := state.PeerCertificates[0]
	names := append([]string{cert.Subject.CommonName}, cert.DNSNames...) // which stay when it is renewed
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	s := &handshake.Secret{Name: cmp.Or(append(names, "certificate "+cert.SerialNumber.String())...)}
	if s.Name == Anybody {
		s.Name = "certificate " + s.Name
	}
	if !hosts {
		return identity{byCertificate, s}
	}
	for _, name := range cert.DNSNames {
		short, _, _ := strings.Cut(name, ".")
		s.Hosts = append(s.Hosts, name, short)
	}
	if s.Hosts == nil {
		s.Hosts = []string{s.Name}
	}
	return identity{byCertificate, s}
}

// How a sender proves who it is.
const (
	byKey         = "key"
	byToken       = "token"
	byCertificate = "certificate"
)

// identity is one thing that a sender has proved. Its name is whose streams are:
// who shares a name, of a key, a token or a certificate, shares its streams.
type identity struct {
	kind string
	*handshake.Secret
}

// names are the identities as a log has them.
func names(who []identity) string {
	all := make([]string, len(who))
	for i, w := range who {
		all[i] = w.kind + ":" + w.Name
	}
	return strings.Join(all, ",")
}

// identify is what the upgrade request itself proves. An empty list means that
// hello is to name a key. If status is not 200 the request is refused.
func (a *Access) identify(req *http.Request) (who []identity, status int, words string) {
	if !a.requiresProof() {
		return nil, http.StatusOK, ""
	}
	if req.TLS == nil && !a.Unbound {
		return nil, http.StatusForbidden, "This receiver requires TLS."
	}
	if value := req.Header.Get("Authorization"); value != "" && len(a.Tokens) > 0 {
		scheme, token, _ := strings.Cut(value, " ")
		found := a.Tokens.Find([]byte(token))
		if !strings.EqualFold(scheme, "Bearer") || found == nil {
			return nil, http.StatusUnauthorized, "Unknown token."
		}
		who = append(who, identity{byToken, found})
	}
	if a.Certificates && req.TLS != nil && len(req.TLS.VerifiedChains) > 0 {
		who = append(who, certified(*req.TLS, a.CertificateHosts))
	}
	if len(who) == 0 && len(a.Keys) == 0 {
		return nil, http.StatusUnauthorized, "This receiver requires a token or a client certificate."
	}
	return who, http.StatusOK, ""
}

// stillValid reports whether w still proves that its holder may send this.
func (a *Access) stillValid(w identity, hello *handshake.Hello) bool {
	good := func(s handshake.Secret) bool {
		return handshake.SameMAC(string(s.Value), string(w.Value)) && s.Allows(hello.Host, hello.SID)
	}
	switch w.kind {
	case byKey:
		return slices.ContainsFunc(a.Keys.Named(w.Name), good)
	case byToken:
		return slices.ContainsFunc(a.Tokens.Named(w.Name), good)
	}
	return a.Certificates
}

// SetAccess changes who may send, from the next handshake on. A session ends
// whose key or token is no longer there.
func (r *Receiver) SetAccess(a Access) {
	r.access.Store(&a)
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.sessions {
		s.recheck(&a)
	}
}

// recheck ends a session that would not be welcome any more. One that is not
// welcome yet looks for itself, in greet.
func (s *session) recheck(a *Access) {
	who := s.identities.Load()
	if who == nil || !a.requiresProofOf(s) {
		return
	}
	withdrawn := func(w identity) bool { return !a.stillValid(w, s.hello) }
	if len(*who) == 0 || slices.ContainsFunc(*who, withdrawn) {
		s.end(&closeReason{
			code: handshake.CloseUnauthenticated,
			msg:  "the key, token or certificate of this session was removed",
		})
	}
}

// refused logs why a sender did not become a session. Strangers can make this
// happen as often as they like, so there is a limit to it.
func (r *Receiver) refused(log *slog.Logger, e *closeReason) {
	r.counters.refusedSenders.Add(1)
	suppressed, ok := r.refusals.allow()
	if !ok {
		return
	}
	reason := e.msg
	if e.log != "" {
		reason = e.log
	}
	if e.code != handshake.CloseUnauthenticated && e.code != handshake.CloseForbidden {
		log.Info("refused", "reason", reason, "suppressed", suppressed)
		return
	}
	log.Warn("sender refused", "reason", reason, "suppressed", suppressed,
		"effect", "no line of it is stored; if it is one of yours, its lines wait in its queue",
		"hint", "if it is one of yours, compare its --key-file or --token-file with --keys or --tokens here; wsrelay check, there, says more")
}
