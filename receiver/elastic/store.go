package elastic

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/tidwall/gjson"

	"wsrelay/handshake"
	"wsrelay/receiver"
)

// Options of Open. The zero value is an engine without authentication.
type Options struct {
	// Prefix is the middle of the index names, wsrelay-PREFIX-2026.11.22:
	// lower-case letters, digits, _ and -; default "logs". It must not
	// change while a line is under way: an id is unique only per index.
	Prefix string

	// Auth is "ApiKey KEY", "Bearer TOKEN" or "USER:PASSWORD". Without it
	// the user and password of the URL are used, if it has some.
	Auth string

	// CAFile holds the certificates, in PEM, that the engine's must be signed
	// by; default: those of the system.
	CAFile string

	// Log takes what no error can carry; default: nowhere.
	Log *slog.Logger
}

// Store is a receiver.Store on an Elasticsearch or OpenSearch cluster. Its
// methods may be called concurrently.
type Store struct {
	name    string
	prefix  string
	log     *slog.Logger
	client  *client
	bulks   *dispatcher
	streams streams
	indices indices
	pause   time.Duration // before the first repetition; doubles
}

var _ receiver.Store = (*Store)(nil)

var validPrefix = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// Open makes a store of the engine at url, or at one of several nodes of one
// cluster, separated by commas. An engine that is down is no error: Commit
// fails until it is up. Open fails if the engine refuses the credentials, or
// if what answers is no such engine.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = "logs"
	}
	if !validPrefix.MatchString(o.Prefix) || o.Prefix == "dead" {
		return nil, fmt.Errorf(`index prefix %q: want lower-case letters, digits, _ and -, and not "dead"`, o.Prefix)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c, err := dial(url, o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		name:   "elasticsearch or opensearch",
		prefix: o.Prefix,
		log:    o.Log,
		client: c,
		pause:  firstPause,
	}
	s.bulks = newDispatcher(c.bulk)
	if err := s.identify(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// Describe implements receiver.Store. The name has product and version if the
// engine could be asked when the store was opened.
func (s *Store) Describe() (name, guarantee string) {
	return s.name, handshake.ExactlyOnce
}

// Close ends what is under way; a Commit that waits returns an error.
func (s *Store) Close() error {
	s.bulks.close()
	s.client.http.CloseIdleConnections()
	return nil
}

// identify asks what the engine is. Only an answer that will not get better by
// waiting is an error.
func (s *Store) identify(ctx context.Context) error {
	answer, err := s.client.call(ctx, http.MethodGet, "/", "", nil)
	var e *Error
	switch {
	case errors.As(err, &e) && e.transient():
		s.log.Warn("engine not reachable", "err", err,
			"effect", "lines stay with their senders until it answers", "hint", e.Hint())
		return nil
	case errors.As(err, &e) && e.Status == http.StatusForbidden:
		return nil // may not ask, may still write
	case err != nil:
		return err
	}
	version := gjson.GetBytes(answer, "version")
	number := version.Get("number").Str
	if number == "" {
		return &Error{Status: http.StatusOK, Reason: "this is neither Elasticsearch nor OpenSearch"}
	}
	product := "elasticsearch"
	if d := version.Get("distribution").Str; d != "" {
		product = d
	}
	s.name = product + " " + number
	return nil
}

func dial(list string, o Options) (*client, error) {
	auth, err := authorization(o.Auth)
	if err != nil {
		return nil, err
	}
	var nodes []*url.URL
	for text := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimRight(strings.TrimSpace(text), "/"))
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, errors.New("the engine's URL is not of the form http(s)://HOST:PORT") // it may hold a password
		}
		nodes = append(nodes, u)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the engine's CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the engine's CA file %s holds no certificate", o.CAFile)
		}
	}
	c := &client{
		timeout: requestTimeout,
		http: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     config,
			MaxIdleConnsPerHost: 2 * mostBulks,
			IdleConnTimeout:     time.Minute,
		},
	}
	c.transport, err = elastictransport.NewClient(
		elastictransport.WithURLs(nodes...),
		elastictransport.WithTransport(c.http),
		elastictransport.WithHeader(auth),
		elastictransport.WithUserAgent("wsreceive"),
		elastictransport.WithDisableRetry(), // what may be repeated is judged here, item by item
	)
	if err != nil {
		return nil, fmt.Errorf("engine client: %w", err)
	}
	return c, nil
}

// authorization is the header that Auth stands for.
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
