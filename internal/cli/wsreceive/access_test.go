package wsreceive

import (
	"crypto/tls"

	"github.com/rogpeppe/go-internal/testscript"

	"wsrelay/test/certs"
)

// makeCerts DIR makes an authority and its certificates.
func makeCerts(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(certs.Write(ts.MkAbs(args[0])))
}

// serial ADDR NAME sets NAME to the serial number of the certificate there.
func serial(ts *testscript.TestScript, _ bool, args []string) {
	conn, err := tls.Dial("tcp", args[0], &tls.Config{InsecureSkipVerify: true})
	ts.Check(err)
	defer conn.Close()
	ts.Setenv(args[1], conn.ConnectionState().PeerCertificates[0].SerialNumber.String())
}
