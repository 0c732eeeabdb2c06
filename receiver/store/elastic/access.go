package elastic

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Access is how an engine is reached. The zero value is an engine without
// authentication, or with the user and password of its URL.
type Access struct {
	// Auth is "ApiKey KEY", "Bearer TOKEN" or "USER:PASSWORD"; it goes before
	// what the URL has.
	Auth string

	// AuthFile is the path of a file with the same, which is read again when it
	// changes.
	AuthFile string

	// AWSRegion has requests signed for Amazon OpenSearch Service in this region,
	// with credentials from where AWS programs look for them.
	AWSRegion string

	// CAFile holds the certificates, in PEM, that the engine's must be signed
	// by; default: those of the system.
	CAFile string

	// CAFingerprint is the SHA-256 of one certificate in hexadecimal, with
	// colons or without, as Elasticsearch prints it at its first start. The
	// engine must show that certificate, as its own or in its chain, and be
	// certified by it for the host of the URL. CAFile means nothing then.
	CAFingerprint string

	// CertFile and KeyFile are what we show of ourselves, in PEM.
	CertFile, KeyFile string

	// Gzip compresses documents on their way: "on", "off" or, the default,
	// "auto": unless all nodes are on this host.
	Gzip string
}

// compresses reports whether documents are to be compressed.
func (a *Access) compresses(nodes []*url.URL) (bool, error) {
	switch a.Gzip {
	case "on", "off":
		return a.Gzip == "on", nil
	case "", "auto":
		return slices.ContainsFunc(nodes, func(u *url.URL) bool {
			ip := net.ParseIP(u.Hostname())
			return u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
		}), nil
	}
	return false, fmt.Errorf("compression of the engine's requests %q: want auto, on or off", a.Gzip)
}

var validRegion = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// tripper puts in front of next what makes requests acceptable to the engine.
func (a *Access) tripper(next http.RoundTripper) (http.RoundTripper, error) {
	switch {
	case a.AWSRegion != "" && (a.Auth != "" || a.AuthFile != ""):
		return nil, errors.New("requests are signed for AWS, or have other credentials: not both")
	case a.AWSRegion != "" && !validRegion.MatchString(a.AWSRegion):
		return nil, fmt.Errorf("%q is not an AWS region, such as eu-central-1", a.AWSRegion)
	case a.AWSRegion != "":
		return newSigner(next, a.AWSRegion)
	case a.AuthFile != "":
		return newFileAuth(next, a.AuthFile)
	}
	return next, nil
}

func (a *Access) tls(nodes []*url.URL) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if (a.CertFile == "") != (a.KeyFile == "") {
		return nil, errors.New("a certificate for the engine needs its key, and the other way round")
	}
	if a.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate for the engine: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	switch {
	case a.CAFingerprint != "":
		want, err := hex.DecodeString(strings.ReplaceAll(a.CAFingerprint, ":", ""))
		if err != nil || len(want) != sha256.Size {
			return nil, fmt.Errorf("the fingerprint %q of the engine's CA is not a SHA-256 in hexadecimal",
				a.CAFingerprint)
		}
		config.InsecureSkipVerify = true // VerifyConnection does it
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyFingerprint(state.PeerCertificates, want, nodes) }
	case a.CAFile != "":
		pem, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the engine's CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the engine's CA file %s holds no certificate", a.CAFile)
		}
	}
	return config, nil
}

// verifyFingerprint wants the certificate with this fingerprint among those
// that the engine shows, takes it for the only authority there is, and wants
// it to certify one of the nodes. Which of them was dialled TLS does not tell
// where it is an address.
func verifyFingerprint(chain []*x509.Certificate, want []byte, nodes []*url.URL) error {
	i := slices.IndexFunc(chain, func(cert *x509.Certificate) bool {
		sum := sha256.Sum256(cert.Raw)
		return bytes.Equal(sum[:], want)
	})
	if i < 0 {
		return errors.New("none of the engine's certificates has the fingerprint that is given")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain[i])
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return err
	}
	if !slices.ContainsFunc(nodes, func(u *url.URL) bool { return chain[0].VerifyHostname(u.Hostname()) == nil }) {
		return errors.New("the engine's certificate is for another host")
	}
	return nil
}

// authorization is the header that auth stands for.
func authorization(auth string) (http.Header, error) {
	header := make(http.Header)
	auth = strings.TrimSpace(auth)
	scheme, secret, _ := strings.Cut(auth, " ")
	switch {
	case auth == "":
	case strings.EqualFold(scheme, "ApiKey"), strings.EqualFold(scheme, "Bearer"):
		header.Set("Authorization", scheme+" "+strings.TrimSpace(secret))
	case strings.Contains(auth, ":"):
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(auth)))
	default:
		return nil, errors.New(`the engine's credentials are not of the form "ApiKey KEY", "Bearer TOKEN" or "USER:PASSWORD"`)
	}
	return header, nil
}
