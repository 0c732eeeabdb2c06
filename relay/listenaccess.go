package relay

import (
	"crypto/tls"
	"net/http"
	"slices"

	"github.com/gorilla/websocket"

	"wsrelay/handshake"
)

// Who may dial a relay that listens. The files of DialConfig are read for each caller,
// so what they hold can be replaced at any time. Its own certificate is that of
// the TLS server; its authorities and pins are for the receiver's certificate;
// its token is what the receiver has to show.

// refusal is an answer to a request that is not the upgrade.
type refusal struct {
	status int
	words  string
}

func (f *refusal) answer(w http.ResponseWriter) {
	switch f.status {
	case http.StatusUpgradeRequired:
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Protocol", handshake.Subprotocol)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	http.Error(w, f.words, f.status)
}

// admit decides whether req may become a session, and what both then prove.
func (a *acceptor) admit(req *http.Request) (*credentials, *refusal) {
	if req.Header.Get("Origin") != "" {
		return nil, &refusal{http.StatusForbidden, "Requests with an Origin header come from web pages. This endpoint is for log receivers only."}
	}
	if !slices.Contains(websocket.Subprotocols(req), handshake.Subprotocol) {
		return nil, &refusal{http.StatusUpgradeRequired, "This endpoint gives logs over WebSocket with the subprotocol " + handshake.Subprotocol + ", and the request does not offer it."}
	}
	with, token, fault := a.r.o.Dial.expected()
	switch {
	case fault != nil:
		a.refused(req.RemoteAddr, fault)
		return nil, &refusal{http.StatusServiceUnavailable, "This relay cannot tell who may dial it; its log says why."}
	case token != "" && !handshake.SameMAC(req.Header.Get("Authorization"), "Bearer "+token):
		a.refused(req.RemoteAddr, Permanent("it sends another token than ours, or none",
			"compare wsreceive --dial-token with --token-file here", nil))
		return nil, &refusal{http.StatusUnauthorized, "This relay requires another token."}
	}
	return with, nil
}

// expected reads the key and the token that a caller must know.
func (w *DialConfig) expected() (c *credentials, token string, fault *Fault) {
	c = &credentials{}
	if fault := w.readKey(c, nil); fault != nil {
		return nil, "", fault
	}
	if w.TokenFile != "" {
		var err error
		if token, err = c.token(w.TokenFile); err != nil {
			return nil, "", tokenFault(err)
		}
	}
	return c, token, nil
}

// sound reports which of the files cannot be used.
func (w *DialConfig) sound() *Fault {
	if _, _, fault := w.expected(); fault != nil {
		return fault
	}
	_, fault := w.server()
	return fault
}

// tls is what the relay shows to a caller, and what it wants to see.
func (a *acceptor) tls(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	config, fault := a.r.o.Dial.server()
	if fault != nil {
		a.refused(hello.Conn.RemoteAddr().String(), fault)
		return nil, fault
	}
	return config, nil
}

func (w *DialConfig) server() (*tls.Config, *Fault) {
	c := &credentials{}
	if fault := w.readTLS(c, nil); fault != nil {
		return nil, fault
	}
	c.tls.MinVersion = tls.VersionTLS13
	switch {
	case c.tls.RootCAs != nil:
		c.tls.ClientCAs, c.tls.ClientAuth = c.tls.RootCAs, tls.RequireAndVerifyClientCert
	case len(w.Pins) > 0:
		c.tls.ClientAuth = tls.RequireAnyClientCert // VerifyConnection looks at the pin
	}
	return c.tls, nil
}
