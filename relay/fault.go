package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/gorilla/websocket"

	"wsrelay/buffer"
	"wsrelay/handshake"
)

// Fault is why there is no session, in the three parts an operator needs.
type Fault struct {
	What   string // what happened
	Effect string // what it means for the logs
	Hint   string // what to do
	Err    error  // the cause; nil where What says it all

	permanent bool           // waiting alone does not fix it: retry slowly, and log an error
	shrink    bool           // smaller batches may get through
	floor     time.Duration  // the receiver asks us not to come back sooner
	spread    *time.Duration // the receiver asks us to come back within it
	code      int            // to close the connection with; 0: a normal closure
	closed    bool           // the connection is lost, or the receiver closes it: there is no close frame to send
}

func (f *Fault) Error() string {
	if f.Err == nil {
		return f.What
	}
	return f.What + ": " + f.Err.Error()
}

func (f *Fault) Unwrap() error { return f.Err }

const (
	effectWait = "nothing is lost: lines wait in the queue on disk and are sent when the receiver takes them"
	effectHold = "nothing is lost yet, but no line is delivered until this is fixed; the queue on disk fills"

	hintServer = "look at the receiver's log"
	hintBug    = "one of the two ends violates the protocol: update both, and report it with both logs"
	hintKnown  = "check --token-file, --key-file or the client certificate; if a proxy terminates TLS in between, wsreceive needs --behind-proxy"
	hintTLS    = "check that the URL names the right host, or give its authority with --tls-ca"
)

// Transient is a fault that may end without action: the relay backs off.
func Transient(what, hint string, err error) *Fault {
	return &Fault{What: what, Effect: effectWait, Hint: hint, Err: err}
}

// Permanent is a fault that needs an operator: the relay logs an error and tries about
// once a minute.
func Permanent(what, hint string, err error) *Fault {
	return &Fault{What: what, Effect: effectHold, Hint: hint, Err: err, permanent: true}
}

// protocolError is a fault of the protocol that the receiver is to hear of.
func protocolError(code int, err error) *Fault {
	f := Permanent("the receiver violates the protocol", hintBug, err)
	f.code = code
	return f
}

func tooLong(err error) *Fault {
	return Permanent("a line is too long for the receiver", "raise the receiver's limit for lines", err)
}

// QueueFault is a fault of the queue, which is tried again.
func QueueFault(err error) *Fault {
	return &Fault{
		What: "the queue cannot be read", Err: err,
		Effect: "lines stay where they are; none is delivered until the queue can be read again",
		Hint:   buffer.Hint(err) + "; wsrelay queue verify says what is there",
	}
}

// dialFault explains in plain words why connecting failed.
func dialFault(err error) *Fault {
	var (
		dns    *net.DNSError
		record tls.RecordHeaderError
		op     *net.OpError
		ne     net.Error
		known  *Fault
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, errEndlessAnswer):
		return Permanent("this is not a receiver", "check that the URL leads to wsreceive", err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return Transient("no such host", "check the name in the URL and this host's DNS", err)
	case errors.As(err, &dns):
		return Transient("the host's name could not be looked up", "check this host's DNS", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		if errors.As(err, &op) && op.Addr != nil {
			err = errors.New(op.Addr.String()) // the rest would say the same once more
		}
		return Transient("connection refused", "check that the receiver runs and that the port is right", err)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Transient("the host cannot be reached", "check network and firewall", err)
	case errors.As(err, &record):
		return Permanent("the port does not speak TLS", "use ws:// for this port, or the receiver's TLS port", err)
	case strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`):
		return Permanent("the port requires TLS", "use wss:// for this port", err)
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return Permanent("the receiver refuses our side of TLS",
			"it may want a client certificate: --tls-cert and --tls-key", err)
	case errors.As(err, &ne) && ne.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		return Transient("no answer in time", "check network and firewall, and that the receiver runs", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return Transient("the connection was closed before the upgrade", hintServer+", and at what stands in between", err)
	}
	if f := certFault(err); f != nil {
		return f
	}
	return Transient("no connection", "check URL, network and proxy", err)
}

// certFault explains why the receiver's certificate is not good enough.
func certFault(err error) *Fault {
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		other   *tls.CertificateVerificationError
		pin     *pinError
	)
	switch {
	case errors.As(err, &pin):
		return Permanent("the receiver's certificate is not the pinned one",
			"if its key was changed, pin the new one with --tls-pin; if not, another server answers in its place", err)
	case errors.As(err, &unknown):
		return Permanent("the receiver's certificate is signed by an unknown authority", hintTLS, err)
	case errors.As(err, &name):
		return Permanent("the receiver's certificate is for another name", hintTLS, err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Permanent("the receiver's certificate has expired, or a clock is wrong", "renew it; check both clocks", err)
	case errors.As(err, &other):
		return Permanent("the receiver's certificate cannot be verified", hintTLS, err)
	}
	return nil
}

// statusFault explains an HTTP answer that is not the upgrade.
func statusFault(resp *http.Response) *Fault {
	what := "the server answered HTTP " + strconv.Itoa(resp.StatusCode)
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized:
		return Permanent(what+": not authenticated", hintKnown, nil)
	case code == http.StatusForbidden:
		return Permanent(what+": forbidden", "check what the receiver allows this host to send", nil)
	case code == http.StatusNotFound:
		return Permanent(what+": nothing at this path", "check the path in the URL; wsreceive serves /relay", nil)
	case code == http.StatusUpgradeRequired:
		return Permanent(what+": it wants another version of the protocol", "update the older of the two ends", nil)
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		f := Transient(what+": it asks us to retry later", hintServer, nil)
		f.floor = retryAfter(resp.Header.Get("Retry-After"))
		return f
	case code == http.StatusProxyAuthRequired:
		return Permanent(what+": the proxy requires credentials", "give them with --proxy", nil)
	case code >= 500:
		return Transient(what, hintServer+", and at what stands in between", nil)
	case code >= 300 && code < 400:
		return Permanent(what+": it redirects to another address",
			"use the address it names: "+clean(resp.Header.Get("Location")), nil)
	case code == http.StatusBadRequest && wantsTLS(resp.Body):
		return Permanent("the port requires TLS", "use wss:// for this port", nil)
	}
	return Permanent(what+" instead of opening a WebSocket", "check that the URL leads to wsreceive", nil)
}

// wantsTLS knows how Go's server and nginx answer plain HTTP on a TLS port.
func wantsTLS(body io.Reader) bool {
	text, _ := io.ReadAll(io.LimitReader(body, 1024))
	return strings.Contains(strings.ToLower(string(text)), "request to an https server") ||
		strings.Contains(string(text), "sent to HTTPS port")
}

// retryAfter reads the header of that name, RFC 9110, 10.2.3.
func retryAfter(s string) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// lostFault explains why a session broke that neither end had closed.
func lostFault(err error) *Fault {
	var ne net.Error
	switch {
	case errors.As(err, &ne) && ne.Timeout():
		f := Transient("the receiver has stopped answering", "check the network, and that the receiver runs", err)
		f.shrink, f.closed = true, true
		return f
	case errors.Is(err, websocket.ErrReadLimit):
		return protocolError(websocket.CloseMessageTooBig, err)
	}
	f := Transient("the connection was lost", "check the network, and "+hintServer, err)
	f.closed = true
	f.shrink = true // on a network that breaks often, only short messages get through
	return f
}

// goneFault explains why the connection to a server of another dialect has ended.
// What codes beyond those of RFC 6455 mean there, we do not know.
func goneFault(err error) *Fault {
	ce, ok := errors.AsType[*websocket.CloseError](err)
	switch {
	case !ok || ce.Code == websocket.CloseAbnormalClosure:
		return lostFault(err)
	case ce.Code >= 3000:
		f := Transient("the server closed the connection", hintServer,
			fmt.Errorf("close code %d: %s", ce.Code, clean(ce.Text)))
		f.closed = true
		return f
	}
	return closeFault(ce.Code, ce.Text)
}

// closeFault explains why the receiver closes with code and text.
func closeFault(code int, text string) *Fault {
	f := faultForCode(code)
	f.closed = true
	f.Err = fmt.Errorf("close code %d", code)
	if text = clean(text); text != "" {
		f.Err = fmt.Errorf("%w: %s", f.Err, text)
	}
	return f
}

func faultForCode(code int) *Fault {
	switch code {
	case websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseServiceRestart:
		return Transient("the receiver closed the connection", "it should be back soon; if not, "+hintServer, nil)
	case websocket.CloseProtocolError, websocket.CloseUnsupportedData, websocket.CloseInvalidFramePayloadData,
		handshake.CloseBadFrame:
		return Permanent("the receiver reports that we violate the protocol", hintBug, nil)
	case websocket.ClosePolicyViolation, handshake.CloseForbidden:
		return Permanent("the receiver forbids it", "check what the receiver allows this host to send", nil)
	case websocket.CloseMessageTooBig:
		f := Transient("a message was too big for the receiver, or for what stands in between", "raise the limit there", nil)
		f.shrink = true
		return f
	case handshake.CloseUnauthenticated:
		return Permanent("the receiver does not know us", hintKnown, nil)
	case handshake.CloseHandshakeTimeout:
		return Transient("the handshake took too long", "check the network, and "+hintServer, nil)
	case handshake.CloseSuperseded:
		return Transient("another sender with our identity took over", "let no other wsrelay use a copy of this queue", nil)
	case handshake.CloseRecordTooBig:
		return Permanent("a line is too long for the receiver", "raise its limit for lines", nil)
	case handshake.CloseVersion:
		return Permanent("the receiver wants another version of the protocol", "update the older of the two ends", nil)
	case handshake.CloseQuota:
		return Transient("the receiver's quota for us is used up", "raise the quota, or send less", nil)
	case handshake.CloseStoreDown:
		return Transient("the receiver's store does not answer", "look at the store", nil)
	}
	return Transient("the receiver closed the connection", hintServer, nil)
}

// millis reads a duration of the wire; it is not negative and has a bound.
func millis(n int64) time.Duration {
	return time.Duration(n) * time.Millisecond
}

// clean makes text of the other end fit for a log: one line, printable, short.
func clean(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), handshake.MaxRejectedError)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
