package wsrelay

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"regexp"
	"slices"
	"strings"

	"wsrelay/intake"
	"wsrelay/internal/cli/options"
	"wsrelay/relay"
)

// connectOptions is how to get to a receiver, and how both prove who they are: the
// options that run and check share.
type connectOptions struct {
	Args []string `arg:"" optional:"" name:"url" help:"URL of the receiver: ws://HOST:PORT/relay or wss://…; several that lead to one store are tried in turn."`
	URL  []string `name:"url" sep:"none" hidden:"" help:"The same, as an option."`

	KeyFile   string   `placeholder:"FILE" help:"Key file for mutual authentication: both ends prove that they hold the key before a line is sent. wsrelay keygen makes one."`
	TokenFile string   `placeholder:"FILE" help:"File with a bearer token, which is sent with the upgrade request, only over TLS or within this host."`
	TLSCA     string   `name:"tls-ca" placeholder:"FILE" help:"Trust the authorities in FILE (PEM) and no others. Default: those of the system."`
	TLSPin    []string `name:"tls-pin" sep:"none" placeholder:"PIN" help:"Trust only a certificate with this key, sha256//BASE64 as wsrelay check shows it; without --tls-ca, regardless of who signed it and for which name. It can be given several times: any of them is trusted."`
	TLSCert   string   `name:"tls-cert" placeholder:"FILE" help:"Our own certificate (PEM), for a receiver with --client-ca."`
	TLSKey    string   `name:"tls-key" placeholder:"FILE" help:"Its key (PEM)."`
	Header    []string `sep:"none" placeholder:"NAME=VALUE" help:"Send this header with the upgrade request; can be given several times. Put a secret header into --header-file or --config, not on a command line."`
	Proxy     string   `default:"env" placeholder:"URL|env|none" help:"HTTP proxy (CONNECT): http://HOST:PORT; env: as in HTTPS_PROXY, HTTP_PROXY and NO_PROXY; none. Put a URL with a password into --proxy-file, --config or the environment. Default: ${default}."`

	HeaderFile string `placeholder:"FILE" help:"Also send the headers in FILE, one NAME=VALUE a line. It is read at the start."`
	ProxyFile  string `placeholder:"FILE" help:"Take --proxy from the first line of FILE. It is read at the start."`

	plainMode
}

// check is what these options must be together.
func (r *connectOptions) check() error {
	if err := r.checkEach(); err != nil {
		return err
	}
	if len(r.URL) == 0 {
		return usageError(errors.New("no URL to ship to"))
	}
	return nil
}

// checkEach is what those must be that are given.
func (r *connectOptions) checkEach() error {
	r.URL = slices.DeleteFunc(append(r.Args, r.URL...), func(u string) bool { return u == "" })
	for _, u := range r.URL {
		if _, err := relay.ParseURL(u); err != nil {
			return configError(err, "wsrelay ws://HOST:8514/relay", exitUsage)
		}
	}
	for _, pin := range r.TLSPin {
		if err := relay.ParsePin(pin); err != nil {
			return usageError(fmt.Errorf("--tls-pin: %w", err))
		}
	}
	if (r.TLSCert == "") != (r.TLSKey == "") {
		return usageError(errors.New("--tls-cert and --tls-key go together"))
	}
	if err := r.readSecrets(); err != nil {
		return err
	}
	if r.Proxy != "env" && r.Proxy != "none" {
		if _, err := relay.ParseProxy(r.Proxy); err != nil {
			return usageError(fmt.Errorf("--proxy: %w", err))
		}
	}
	if err := r.plainMode.check(r); err != nil {
		return err
	}
	_, err := r.headers()
	return err
}

// readSecrets reads the options that stand in a file of their own.
func (r *connectOptions) readSecrets() error {
	if r.HeaderFile != "" {
		text, err := os.ReadFile(r.HeaderFile)
		if err != nil {
			return configError(fmt.Errorf("--header-file: %w", err), "let this user read the file", exitConfig)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				r.Header = append(r.Header, line)
			}
		}
	}
	if r.ProxyFile == "" {
		return nil
	}
	if r.Proxy != "env" {
		return usageError(errors.New("--proxy and --proxy-file: give one of them"))
	}
	text, err := os.ReadFile(r.ProxyFile)
	if err != nil {
		return configError(fmt.Errorf("--proxy-file: %w", err), "let this user read the file", exitConfig)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	r.Proxy = strings.TrimSpace(line)
	return nil
}

var (
	secretName = regexp.MustCompile(`(?i)auth|cookie|token|secret|key|password`)
	userinfo   = regexp.MustCompile(`//[^/]*:[^/]*@`)
)

// exposed names the options with a secret that every local user can read: in
// the arguments of wsrelay, or of the shell that has started it.
func exposed(args []string, src *options.Sources) (names []string) {
	find := func(name string) []string { return append(intake.FlagValues(args, "--"+name), src.Exposed(name)...) }
	for _, h := range find("header") {
		if name, _, _ := strings.Cut(h, "="); secretName.MatchString(name) {
			names = append(names, "header")
			break
		}
	}
	if slices.ContainsFunc(find("proxy"), userinfo.MatchString) {
		names = append(names, "proxy")
	}
	return names
}

var (
	headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // a token of RFC 9110, 5.6.2
	ownHeader  = regexp.MustCompile(`^(Upgrade|Connection|Content-Length|Transfer-Encoding|Origin|Sec-Websocket-.*)$`)
)

// headers is --header as HTTP has it. No error holds a value, which may be
// secret.
func (r *connectOptions) headers() (http.Header, error) {
	all := http.Header{}
	for _, h := range r.Header {
		name, value, ok := strings.Cut(h, "=")
		name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
		switch {
		case !ok || !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00"):
			return nil, usageError(errors.New("--header: want NAME=VALUE, as HTTP has them"))
		case ownHeader.MatchString(name):
			return nil, usageError(fmt.Errorf("--header: %s is the WebSocket's own", name))
		case name == "Authorization" && r.TokenFile != "":
			return nil, usageError(errors.New("--header: --token-file gives Authorization already"))
		}
		all.Add(name, value)
	}
	return all, nil
}

// dialConfig is the relay's form of these options, once they were checked.
func (r *connectOptions) dialConfig() relay.DialConfig {
	header, _ := r.headers()
	return relay.DialConfig{
		KeyFile: r.KeyFile, TokenFile: r.TokenFile, CAFile: r.TLSCA, Pins: r.TLSPin,
		CertFile: r.TLSCert, CertKeyFile: r.TLSKey, Header: header, Proxy: r.Proxy,
	}
}
