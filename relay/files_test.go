package relay

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// What a file holds can be replaced while the relay runs: it counts from the next
// attempt on. For the key see TestRelay_DeliversToWhoProvesTheSameKey.
func TestRelay_TakesWhatItsFilesHoldAtEachAttempt(t *testing.T) {
	token := secrets(t, handshake.ParseTokens, "ci abcdefghijklmnop")
	known, knownFile := certificate(t, "web-1", time.Now().Add(time.Hour))
	stranger, strangerFile := certificate(t, "web-1", time.Now().Add(time.Hour))
	for name, tt := range map[string]struct {
		access receiver.Access
		files  func(w *DialConfig, dir string, r *real) // of w
		want   string                                   // the log, before the files are put right
		right  func(w *DialConfig, r *real)
	}{
		"authorities": {
			receiver.Access{},
			func(w *DialConfig, dir string, _ *real) { w.CAFile = dir + "/ca"; copyFile(t, strangerFile, w.CAFile) },
			"unknown authority",
			func(w *DialConfig, r *real) { copyFile(t, r.ca, w.CAFile) },
		},
		"token": {
			receiver.Access{Tokens: token},
			func(w *DialConfig, dir string, _ *real) {
				w.TokenFile = dir + "/token"
				writeFile(t, w.TokenFile, "ABCDEFGHIJKLMNOP")
			},
			"HTTP 401", func(w *DialConfig, _ *real) { writeFile(t, w.TokenFile, "abcdefghijklmnop") },
		},
		"certificate": {
			receiver.Access{Certificates: true},
			func(w *DialConfig, dir string, r *real) {
				r.clients.AppendCertsFromPEM([]byte(readFile(t, knownFile)))
				w.CertFile, w.CertKeyFile = dir+"/cert", dir+"/key"
				copyFile(t, strangerFile, w.CertFile)
				writeFile(t, w.CertKeyFile, keyPEM(t, stranger))
			},
			"refuses our side of TLS",
			func(w *DialConfig, _ *real) {
				writeFile(t, w.CertKeyFile, keyPEM(t, known))
				copyFile(t, knownFile, w.CertFile)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, log, q := startReal(t, tt.access), new(logged), openQueue(t)
			w := DialConfig{CAFile: r.ca}
			tt.files(&w, t.TempDir(), r)
			end := appendLines(t, q, 1, 10)
			run(t, briskly(New(q, Options{URLs: []string{r.url()}, Dial: w, Log: log.logger()})))
			(&hosted{t: t, log: log}).says(tt.want)
			tt.right(&w, r)
			waitAcked(t, q, end)
		})
	}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) { t.Helper(); writeFile(t, to, readFile(t, from)) }

func keyPEM(t testing.TB, cert tls.Certificate) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// The system's authorities are read once in the life of a process, so this one
// runs itself again.
func TestDial_TrustsTheAuthoritiesOfTheSystem(t *testing.T) {
	const where = "WSRELAY_TEST_DIAL"
	if u := os.Getenv(where); u != "" {
		fmt.Printf("the fault is %v.\n", dialed(t, u, Options{}))
		return
	}
	r := startReal(t, receiver.Access{})
	_, other := certificate(t, "other", time.Now().Add(time.Hour))
	for ca, want := range map[string]string{r.ca: "the fault is <nil>.", other: "unknown authority"} {
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		again.Env = append(os.Environ(), where+"="+r.url(), "SSL_CERT_FILE="+ca, "SSL_CERT_DIR="+t.TempDir())
		if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %s; want %q", err, out, want)
		}
	}
}
