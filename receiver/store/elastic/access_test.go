package elastic

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wsrelay/test/certs"
)

// secured is an engine on host that has and wants the certificates of dir,
// which are for 127.0.0.1.
func secured(t *testing.T, dir, host string) *httptest.Server {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca := authority(t, dir)
	cert.Certificate = append(cert.Certificate, ca.Raw)
	clients := x509.NewCertPool()
	clients.AddCert(ca)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"version":{"number":"8.0.0"}}`)
	}))
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	_ = srv.Listener.Close()
	srv.Listener = ln
	srv.TLS = &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: clients,
		ClientAuth: tls.RequireAndVerifyClientCert,
	}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func authority(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestDial_ChecksTheEngineAndShowsWhoWeAre(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if err := certs.Write(d); err != nil {
			t.Fatal(err)
		}
	}
	here, elsewhere := secured(t, dir, "127.0.0.1").URL, secured(t, dir, "127.0.0.2").URL
	fingerprint := func(dir string) string {
		sum := sha256.Sum256(authority(t, dir).Raw)
		return fmt.Sprintf("%X", sum[:])
	}
	cert, key := filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	for _, tt := range []struct {
		what string
		url  string
		a    Access
		want string // in the error; "": none
	}{
		{"CA file", here, Access{CAFile: filepath.Join(dir, "ca.pem"), CertFile: cert, KeyFile: key}, ""},
		{"another CA", here, Access{CAFile: filepath.Join(other, "ca.pem"), CertFile: cert, KeyFile: key}, "unknown authority"},
		{"no certificate of ours", here, Access{CAFile: filepath.Join(dir, "ca.pem")}, "certificate required"},
		{"nothing known of the engine", here, Access{CertFile: cert, KeyFile: key}, "unknown authority"},
		{"fingerprint", here, Access{CAFingerprint: fingerprint(dir), CertFile: cert, KeyFile: key}, ""},
		{"fingerprint of another CA", here, Access{CAFingerprint: fingerprint(other), CertFile: cert, KeyFile: key}, "fingerprint"},
		{"fingerprint, another host", elsewhere, Access{CAFingerprint: fingerprint(dir), CertFile: cert, KeyFile: key}, "another host"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			c, err := Dial(tt.url, tt.a)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			switch _, err := c.Product(t.Context()); {
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
