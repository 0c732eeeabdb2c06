package wsreceive

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"wsrelay/internal/cli"
)

type certCmd struct {
	Names []string `arg:"" name:"name" help:"Host name or IP address of this receiver, as senders and browsers use it."`
	Dir   string   `default:"." placeholder:"DIR" help:"Write tls.pem and tls.key into this directory. Default: ${default}."`
	Days  int      `default:"3650" placeholder:"N" help:"Days until the certificate expires. Default: ${default}."`
}

// Run writes a certificate that signs itself, for P-256: browsers know no
// Ed25519. A file that exists is not touched.
func (c *certCmd) Run(to *streams) error {
	certificate, key, err := c.make()
	if err == nil {
		err = c.write(certificate, key)
	}
	if err != nil {
		return &cli.Error{
			Err: fmt.Errorf("no certificate was made: %w", err), Effect: "nothing has changed", Code: 1,
			Hint: "name a directory that exists and holds no tls.pem and tls.key, with --dir",
		}
	}
	_, err = fmt.Fprintf(to.out, `The certificate for %s is in %s, its key in %s.
Here:    give the key to the user that wsreceive runs as, then: wsreceive serve --tls-cert %[2]s --tls-key %[3]s
Senders: copy %[2]s to each, then: wsrelay --tls-ca FILE
`, c.Names[0], c.path("tls.pem"), c.path("tls.key"))
	return err
}

func (c *certCmd) path(name string) string { return filepath.Join(c.Dir, name) }

// make gives certificate and key, PEM.
func (c *certCmd) make() (certificate, key []byte, err error) {
	if c.Days < 1 {
		return nil, nil, fmt.Errorf("--days %d: a certificate is valid for a day at least", c.Days)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: c.Names[0]},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, c.Days), // clocks differ
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true, // it is what --tls-ca trusts
	}
	for _, name := range c.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), err
}

// write makes both files, or none.
func (c *certCmd) write(certificate, key []byte) error {
	err := create(c.path("tls.key"), 0o600, key)
	if err != nil {
		return err
	}
	if err := create(c.path("tls.pem"), 0o644, certificate); err != nil {
		return errors.Join(err, os.Remove(c.path("tls.key")))
	}
	return nil
}

// create writes a file that did not exist.
func create(name string, mode os.FileMode, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
