package wsreceive

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"wsrelay/handshake"
	"wsrelay/internal/cli"
	"wsrelay/internal/connlimit"
	"wsrelay/receiver"
	"wsrelay/receiver/web/login"
)

// authOptions is the options that say who may send. The files are read again on
// SIGHUP.
type authOptions struct {
	Keys           string `placeholder:"FILE" help:"Keys of senders, one 'name key' a line as wsrelay keygen makes them; host=NAME or sid=SID after a key restricts it."`
	Tokens         string `placeholder:"FILE" help:"Bearer tokens of senders, one 'name token' a line, with the same restrictions."`
	ClientCA       string `name:"client-ca" placeholder:"FILE" help:"Authorities (PEM) for client certificates of senders. A sender needs one of key, token and certificate."`
	ClientHosts    bool   `help:"Restrict a client certificate to the hosts of its DNS names, by their full name or its first part. Without DNS names, the common name is used."`
	TLSCert        string `name:"tls-cert" placeholder:"FILE" help:"Our certificate with its chain (PEM); listen with TLS."`
	TLSKey         string `name:"tls-key" placeholder:"FILE" help:"Its key (PEM)."`
	BehindProxy    bool   `help:"Accept senders without TLS because a proxy terminates it. Keys are then not bound to the TLS connection."`
	AllowInsecure  bool   `help:"Allow an address beyond loopback without TLS or without authentication of senders."`
	ReceiptSecret  string `placeholder:"FILE" help:"Sign receipts with the key in FILE, a line as wsrelay keygen makes it; all receivers of one store share it."`
	MaxStreams     int    `placeholder:"N" help:"Most streams that one key, token or certificate can have connected, and can start within an hour. Default: 64 for each host that it is restricted to, else 10000."`
	RequireReceipt bool   `help:"Refuse a stream that is not new and has no signed receipt. Default: only log it."`
}

func (a *authOptions) authenticates() bool { return a.Keys != "" || a.Tokens != "" || a.ClientCA != "" }

// check refuses options that do not fit together, or not to the address. A receiver
// that dials may have keys without TLS of its own: they are for the relays.
func (a *authOptions) check(listen string, dials bool) error {
	host, _, err := net.SplitHostPort(listen)
	wrong := func(code int, hint, format string, args ...any) error {
		return &cli.Error{Err: fmt.Errorf(format, args...), Effect: nothingReceived, Hint: hint, Code: code}
	}
	switch notLoopback := !connlimit.Loopback(host); {
	case err != nil:
		return wrong(exitConfig, "use HOST:PORT, such as 127.0.0.1:8514", "--listen: %w", err)
	case (a.TLSCert == "") != (a.TLSKey == ""):
		return wrong(exitUsage, "give both, or none", "--tls-cert and --tls-key go together")
	case a.ClientCA != "" && !dials && (a.TLSCert == "" || a.BehindProxy):
		return wrong(exitUsage, "give --tls-cert and --tls-key; a proxy that terminates TLS has to check certificates itself", "--client-ca has no effect if TLS is not terminated here")
	case a.ClientHosts && a.ClientCA == "":
		return wrong(exitUsage, "give --client-ca", "--client-hosts has no effect without client certificates")
	case a.MaxStreams < 0:
		return wrong(exitUsage, "use a number of at least 1", "--max-streams %d", a.MaxStreams)
	case a.RequireReceipt && a.ReceiptSecret == "":
		return wrong(exitUsage, "wsrelay keygen makes a file for --receipt-secret",
			"--require-receipt needs --receipt-secret")
	case a.AllowInsecure:
	case notLoopback && !a.authenticates():
		return wrong(exitConfig, "give --keys and --tls-cert, or listen on 127.0.0.1; --allow-insecure if you trust the network",
			"--listen %s is not a loopback address, and anyone who can reach it could write lines", listen)
	case notLoopback && a.TLSCert == "":
		return wrong(exitConfig, "give --tls-cert and --tls-key, or listen on 127.0.0.1; --allow-insecure if you trust the network",
			"--listen %s is not a loopback address, and without TLS anyone on the network path could read and change lines", listen)
	case a.authenticates() && a.TLSCert == "" && !a.BehindProxy && !dials:
		return wrong(exitConfig, "give --tls-cert and --tls-key; --behind-proxy if a proxy on this host terminates TLS; --allow-insecure for a test",
			"senders cannot authenticate without TLS")
	}
	return nil
}

// loaded is what the files hold.
type loaded struct {
	receiver.Access
	tls     *tls.Config    // of our listener; nil: none
	senders *x509.CertPool // the authorities of senders' certificates; nil: none
	dial    receiver.DialConfig
	users   login.Users // of the page; nil: nobody is asked
}

// load reads the files. An error names the file and holds no secret.
func (a *authOptions) load(log *slog.Logger) (*loaded, error) {
	l := &loaded{}
	l.Unbound, l.RequireReceipt = a.BehindProxy || a.TLSCert == "" && a.AllowInsecure, a.RequireReceipt
	var err error
	if l.Keys, err = readSecrets(a.Keys, handshake.ParseKeys, log); err != nil {
		return nil, err
	}
	if l.Tokens, err = readSecrets(a.Tokens, handshake.ParseTokens, log); err != nil {
		return nil, err
	}
	receipt, err := readSecrets(a.ReceiptSecret, handshake.ParseKeys, log)
	switch {
	case err != nil:
		return nil, err
	case len(receipt) > 1:
		return nil, fmt.Errorf("%s: %d keys, want one", a.ReceiptSecret, len(receipt))
	case len(receipt) == 1:
		l.ReceiptSecret = receipt[0].Value
	}
	if a.ClientCA != "" {
		if l.senders, err = readAuthorities(a.ClientCA); err != nil {
			return nil, err
		}
		l.Certificates, l.CertificateHosts = true, a.ClientHosts
	}
	if a.TLSCert != "" {
		err = a.loadTLS(l, log)
	}
	return l, err
}

func readAuthorities(name string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", name)
	}
	return pool, nil
}

func (a *authOptions) loadTLS(l *loaded, log *slog.Logger) error {
	warnReadable(a.TLSKey, log)
	cert, err := tls.LoadX509KeyPair(a.TLSCert, a.TLSKey)
	if err != nil {
		return fmt.Errorf("%s and %s: %w", a.TLSCert, a.TLSKey, err)
	}
	l.tls = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
	if l.senders != nil {
		// A sender without a certificate is refused in HTTP, in plainer words than TLS has.
		l.tls.ClientAuth, l.tls.ClientCAs = tls.VerifyClientCertIfGiven, l.senders
	}
	return nil
}

// readSecrets reads a file, if it has a name.
func readSecrets(name string, parse func([]byte) (handshake.Secrets, error),
	log *slog.Logger,
) (handshake.Secrets, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	warnReadable(name, log)
	all, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return all, nil
}

func warnReadable(name string, log *slog.Logger) {
	if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("others can read a secret", "file", name,
			cli.Effect, "a user who reads it can impersonate a sender, or this receiver",
			cli.Hint, "chown it to the user that wsreceive runs as, and chmod 600; make new secrets if in doubt")
	}
}

// describe says who may send, for the log.
func (l *loaded) describe() string {
	var all []string
	if len(l.Keys) > 0 {
		all = append(all, fmt.Sprintf("%d keys", len(l.Keys)))
	}
	if len(l.Tokens) > 0 {
		all = append(all, fmt.Sprintf("%d tokens", len(l.Tokens)))
	}
	if l.Certificates {
		all = append(all, "certificates")
	}
	if all == nil {
		return "anybody"
	}
	return strings.Join(all, ", ")
}

// expiry is when our certificate ends to be good; empty without one.
func (l *loaded) expiry() string {
	if l.tls == nil {
		return ""
	}
	return l.tls.Certificates[0].Leaf.NotAfter.UTC().Format("2006-01-02")
}
