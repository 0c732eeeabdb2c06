package wsreceive

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"

	"wsrelay/handshake"
	"wsrelay/internal/cli"
	"wsrelay/internal/connlimit"
	"wsrelay/receiver"
)

// dialOptions is the options for relays that listen.
type dialOptions struct {
	Dial      []string `sep:"none" placeholder:"URL" help:"Dial a relay that listens (wsrelay --listen), ws://HOST:PORT or wss://HOST:PORT; give it once for each relay."`
	DialToken string   `placeholder:"FILE" help:"Send the token in FILE to the relays of --dial, only over TLS or within this host."`
}

// check is what the options must be together.
func (d *dialOptions) check() error {
	if d.DialToken != "" && len(d.Dial) == 0 {
		return &cli.Error{
			Err: errors.New("--dial-token needs --dial"), Effect: nothingReceived,
			Hint: "put the tokens of senders into the file of --tokens", Code: exitUsage,
		}
	}
	for _, address := range d.Dial {
		u, err := url.Parse(address)
		if err == nil && d.DialToken != "" && u.Scheme != "wss" && !connlimit.Loopback(u.Hostname()) {
			return &cli.Error{
				Err:    fmt.Errorf("--dial %s: a token must not travel without TLS", u.Redacted()),
				Effect: nothingReceived,
				Hint:   "use wss://, or --keys, which reveal no secret", Code: exitUsage,
			}
		}
	}
	return nil
}

// dialConfig is how to get to a relay: what to trust, and what to show.
func (d *dialOptions) dialConfig(l *loaded, log *slog.Logger) (w receiver.DialConfig, err error) {
	w.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: l.senders}
	if l.tls != nil {
		w.TLS.Certificates = l.tls.Certificates
	}
	if d.DialToken == "" {
		return w, nil
	}
	text, err := os.ReadFile(d.DialToken)
	if err != nil {
		return w, err
	}
	warnReadable(d.DialToken, log)
	token, err := handshake.ParseToken(text)
	if err != nil {
		return w, fmt.Errorf("%s: want a token and nothing else: %w", d.DialToken, err)
	}
	w.Header = http.Header{"Authorization": {"Bearer " + token}}
	return w, nil
}

// dialers are those of one process.
type dialers []*receiver.Dialer

func (d *dialOptions) dialers(rcv *receiver.Receiver, config func() receiver.DialConfig) (all dialers, err error) {
	for _, address := range d.Dial {
		one, err := receiver.NewDialer(rcv, address, config)
		if err != nil {
			return nil, &cli.Error{
				Err: fmt.Errorf("--dial: %w", err), Effect: nothingReceived,
				Hint: "--dial wss://web-1.example.com:8514", Code: exitUsage,
			}
		}
		all = append(all, one)
	}
	return all, nil
}

// run lets all of them dial until ctx ends and rcv has been shut down.
func (d dialers) run(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	for _, one := range d {
		wg.Go(func() { one.Run(ctx) })
	}
	return wg.Wait
}

// retry has those that wait try again at once.
func (d dialers) retry() {
	for _, one := range d {
		one.Retry()
	}
}

// list is the relays that are dialled, one a line.
func (d dialers) list(w http.ResponseWriter, _ *http.Request) {
	for _, one := range d {
		fmt.Fprintln(w, one.State())
	}
}
