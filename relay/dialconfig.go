package relay

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"wsrelay/handshake"
	"wsrelay/internal/connlimit"
)

// DialConfig is how a relay connects to its receiver, and how both authenticate.
// Files are read at every attempt, so they can be replaced at any time; an open
// session continues. The zero value dials directly, trusts the authorities of this
// system, and authenticates with nothing.
type DialConfig struct {
	KeyFile     string      // one line of handshake.ParseKeys: both ends prove that they hold the key
	TokenFile   string      // a bearer token; it leaves this host over TLS only
	CAFile      string      // PEM of the authorities to trust, and no others
	Pins        []string    // keys to trust, in the form ParsePin takes; without CAFile, regardless of signer and name
	CertFile    string      // PEM of our certificate
	CertKeyFile string      // PEM of its key
	Header      http.Header // sent with the upgrade request
	Proxy       string      // an HTTP proxy's URL; "none"; "" or "env": what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say
}

// credentials are what one attempt goes with: what the files hold right now.
type credentials struct {
	key     *handshake.Secret // nil: none
	tls     *tls.Config
	header  http.Header
	proxy   *url.URL // nil: none
	exposed []string // secret files that others can read
}

// ready reads what an attempt at u takes. Whatever is configured and cannot be
// had is a fault: there is no falling back to less.
func (w *DialConfig) ready(u *url.URL) (*credentials, *Fault) {
	c := &credentials{header: http.Header{}}
	maps.Copy(c.header, w.Header)
	for _, step := range []func(*credentials, *url.URL) *Fault{w.readProxy, w.readKey, w.readToken, w.readTLS} {
		if fault := step(c, u); fault != nil {
			return nil, fault
		}
	}
	return c, nil
}

func (w *DialConfig) readProxy(c *credentials, u *url.URL) (fault *Fault) {
	var err error
	switch w.Proxy {
	case "none":
	case "", "env":
		plain := *u
		plain.Scheme = strings.Replace(u.Scheme, "ws", "http", 1)
		c.proxy, err = http.ProxyFromEnvironment(&http.Request{URL: &plain})
	default:
		c.proxy, err = ParseProxy(w.Proxy)
	}
	if err == nil && c.proxy != nil && c.proxy.Scheme != "http" {
		err = fmt.Errorf("%q is not a kind of proxy that wsrelay can use", c.proxy.Scheme)
	}
	if err != nil {
		return Permanent("the proxy cannot be used", "use --proxy http://HOST:PORT, or none", redact(err))
	}
	return nil
}

// ParseProxy reads a proxy's address. Errors hold no password.
func ParseProxy(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, redact(err)
	case u.Scheme != "http" || u.Hostname() == "":
		return nil, errors.New("want http://HOST:PORT")
	}
	return u, nil
}

func (w *DialConfig) readKey(c *credentials, _ *url.URL) *Fault {
	if w.KeyFile == "" {
		return nil
	}
	file, err := c.secret(w.KeyFile)
	if err == nil {
		var keys handshake.Secrets
		if keys, err = handshake.ParseKeys(file); err == nil && len(keys) > 1 {
			err = fmt.Errorf("%d keys, want exactly one", len(keys))
		}
		if err == nil {
			c.key = &keys[0]
			return nil
		}
		err = fmt.Errorf("%s: %w", w.KeyFile, err)
	}
	return Permanent("the key cannot be used", "wsrelay keygen makes a file for --key-file", err)
}

func (w *DialConfig) readToken(c *credentials, u *url.URL) *Fault {
	if w.TokenFile == "" {
		return nil
	}
	if u.Scheme != "wss" && (!connlimit.Loopback(u.Hostname()) || c.proxy != nil) {
		return Permanent("a token must not travel without TLS", "use wss://, or --key-file, which reveals no secret", nil)
	}
	token, err := c.token(w.TokenFile)
	if err != nil {
		return tokenFault(err)
	}
	c.header.Set("Authorization", "Bearer "+token)
	return nil
}

func tokenFault(err error) *Fault {
	return Permanent("the token cannot be used", "the file must contain the token and nothing else", err)
}

// token reads a file that holds a token and nothing else.
func (c *credentials) token(name string) (string, error) {
	file, err := c.secret(name)
	if err != nil {
		return "", err
	}
	token, err := handshake.ParseToken(file)
	if err != nil {
		return "", fmt.Errorf("%s: want a token and nothing else: %w", name, err)
	}
	return token, nil
}

// secret reads a file that only we should be able to read.
func (c *credentials) secret(name string) ([]byte, error) {
	if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o077 != 0 {
		c.exposed = append(c.exposed, name)
	}
	return os.ReadFile(name)
}

func (w *DialConfig) readTLS(c *credentials, _ *url.URL) *Fault {
	c.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if w.CAFile != "" {
		pem, err := os.ReadFile(w.CAFile)
		if err != nil {
			return Permanent("the authorities cannot be read", "--tls-ca names a file of certificates in PEM", err)
		}
		c.tls.RootCAs = x509.NewCertPool()
		if !c.tls.RootCAs.AppendCertsFromPEM(pem) {
			return Permanent("the file of authorities holds no certificate",
				"--tls-ca names a file of certificates in PEM", errors.New(w.CAFile))
		}
	}
	if w.CertFile != "" {
		if _, err := c.secret(w.CertKeyFile); err != nil {
			return Permanent("the key of our certificate cannot be read", "look at --tls-key", err)
		}
		cert, err := tls.LoadX509KeyPair(w.CertFile, w.CertKeyFile)
		if err != nil {
			return Permanent("our certificate cannot be used", "look at --tls-cert and --tls-key", err)
		}
		c.tls.Certificates = []tls.Certificate{cert}
	}
	if len(w.Pins) > 0 {
		c.tls.InsecureSkipVerify = w.CAFile == "" // the pin says more than a name
		c.tls.VerifyConnection = w.checkPin
	}
	return nil
}

const pinPrefix = "sha256//"

// Pin is how --tls-pin names the key of a certificate: the form of curl and of
// RFC 7469. It stays the same when a certificate is renewed with its key.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return pinPrefix + base64.StdEncoding.EncodeToString(sum[:])
}

// ParsePin reports whether s has the form that Pin gives.
func ParsePin(s string) error {
	text, ok := strings.CutPrefix(s, pinPrefix)
	sum, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("%q is not of the form %sBASE64, a SHA-256 of the public key", s, pinPrefix)
	}
	return nil
}

func (w *DialConfig) checkPin(state tls.ConnectionState) error {
	if got := Pin(state.PeerCertificates[0]); !slices.Contains(w.Pins, got) {
		return &pinError{got}
	}
	return nil
}

// pinError is a certificate with another key than those pinned.
type pinError struct{ got string }

func (e *pinError) Error() string { return "its key is " + e.got }
