package wsrelay

import (
	"errors"
	"fmt"
	"net"

	"wsrelay/internal/connlimit"
)

// listenOptions is the options of a relay that receivers dial.
type listenOptions struct {
	Listen        string `placeholder:"ADDR" help:"Listen on ADDR, HOST:PORT, for a receiver (wsreceive --dial) instead of dialling one. An address beyond loopback needs --tls-cert and --tls-key, and one of --key-file, --token-file, --tls-ca or --tls-pin to authenticate the receiver. One receiver is served at a time."`
	AllowInsecure bool   `help:"Allow an address beyond loopback without TLS or without authentication of the receiver."`
}

// check is what the options must be together, with those that are shared with
// the other direction.
func (l *listenOptions) check(r *connectOptions) error {
	wrong := func(hint, format string, args ...any) error {
		return configError(fmt.Errorf(format, args...), hint, exitConfig)
	}
	if err := r.checkEach(); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(l.Listen)
	asks := r.KeyFile != "" || r.TokenFile != "" || r.TLSCA != "" || len(r.TLSPin) > 0
	switch notLoopback := !connlimit.Loopback(host); {
	case err != nil:
		return wrong("use HOST:PORT, such as 127.0.0.1:8514", "--listen: %w", err)
	case len(r.URL) > 0:
		return usageError(errors.New("--listen and a URL: either receivers dial, or they are dialled"))
	case len(r.Header) > 0 || r.Proxy != "env":
		return usageError(errors.New("--header and --proxy do not apply to --listen"))
	case r.Mode != "native":
		return usageError(errors.New("--listen is for receivers that speak wsrelay.v1"))
	case (r.TLSCA != "" || len(r.TLSPin) > 0) && r.TLSCert == "":
		return wrong("give --tls-cert and --tls-key", "--tls-ca and --tls-pin are for a receiver's certificate, and without TLS it shows none")
	case l.AllowInsecure || !notLoopback:
	case !asks:
		return wrong("give --key-file, and --tls-cert and --tls-key; or listen on 127.0.0.1; --allow-insecure if you trust the network",
			"--listen %s is not a loopback address, and anyone who can reach it could receive the lines", l.Listen)
	case r.TLSCert == "":
		return wrong("give --tls-cert and --tls-key, or listen on 127.0.0.1; --allow-insecure if you trust the network",
			"--listen %s is not a loopback address, and without TLS anyone on the network path could read and change lines", l.Listen)
	}
	return nil
}
