package elastic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/tidwall/gjson"
)

const (
	requestTimeout = 90 * time.Second // the engine itself waits a minute for a shard
	maxAnswer      = 64 << 20         // bytes; that of a full bulk is under 3 MiB
)

// Client asks one cluster. Its methods may be called concurrently.
type Client struct {
	transport *elastictransport.Client
	http      *http.Transport
	timeout   time.Duration // of one request
	maxAnswer int64         // bytes of one answer
	nodes     int
	gzip      bool // documents
	bulkPath  string
}

var gzips = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // there is no such level
	}
	return w
}}

func compressed(body [][]byte) []byte {
	var b bytes.Buffer
	b.Grow(sizeOf(body)/4 + 512)
	w := gzips.Get().(*gzip.Writer)
	defer gzips.Put(w)
	w.Reset(&b)
	for _, part := range body {
		_, _ = w.Write(part) // a Buffer takes everything
	}
	_ = w.Close()
	return b.Bytes()
}

func sizeOf(body [][]byte) (n int) {
	for _, part := range body {
		n += len(part)
	}
	return n
}

// errTooLong says that an answer has more bytes than are taken.
var errTooLong = errors.New("the answer is too long")

// Dial makes a client of the engine at list: one URL, or those of several nodes
// of one cluster, separated by commas, or an Elastic Cloud id. Requests go to them in
// turn; a node that does not answer is left out for a while. Dial itself connects to
// nothing.
func Dial(list string, a Access) (*Client, error) {
	auth, err := authorization(a.Auth)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(list, cloudScheme) {
		if list, err = cloudURL(list); err != nil {
			return nil, err
		}
	}
	var nodes []*url.URL
	for text := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimRight(strings.TrimSpace(text), "/"))
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, errors.New("the engine's URL is not of the form http(s)://HOST:PORT") // it may hold a password
		}
		nodes = append(nodes, u)
	}
	config, err := a.tls(nodes)
	if err != nil {
		return nil, err
	}
	compresses, err := a.compresses(nodes)
	if err != nil {
		return nil, err
	}
	c := &Client{
		timeout:   requestTimeout,
		maxAnswer: maxAnswer,
		bulkPath:  bulkPath,
		nodes:     len(nodes),
		gzip:      compresses,
		http: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     config,
			MaxIdleConnsPerHost: 2 * mostBulks,
			IdleConnTimeout:     time.Minute,
		},
	}
	tripper, err := a.tripper(c.http)
	if err != nil {
		return nil, err
	}
	c.transport, err = elastictransport.NewClient(
		elastictransport.WithURLs(nodes...),
		elastictransport.WithTransport(tripper),
		elastictransport.WithHeader(auth),
		elastictransport.WithUserAgent("wsreceive"),
		elastictransport.WithDisableRetry(), // what may be repeated is judged here, item by item
	)
	if err != nil {
		return nil, fmt.Errorf("engine client: %w", err)
	}
	return c, nil
}

// Close releases idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Product asks what the engine is, every node until one answers: "opensearch
// 2.19.1". What is neither Elasticsearch nor OpenSearch is an *Error.
func (c *Client) Product(ctx context.Context) (string, error) {
	var answer []byte
	var err error
	for range c.nodes {
		if answer, err = c.Do(ctx, http.MethodGet, "/", nil); err == nil || asError(err).Status != 0 {
			break
		}
	}
	if err != nil {
		return "", err
	}
	version := gjson.GetBytes(answer, "version")
	number := version.Get("number").Str
	if number == "" {
		return "", &Error{Status: http.StatusOK, Reason: "this is neither Elasticsearch nor OpenSearch"}
	}
	product := "elasticsearch"
	if d := version.Get("distribution").Str; d != "" {
		product = d
	}
	return product + " " + number, nil
}

// writeThreads is how many threads for bulks the engine's nodes have in all, or 0 if
// it does not say.
func (c *Client) writeThreads(ctx context.Context) (n int) {
	answer, err := c.Do(ctx, http.MethodGet, "/_nodes/thread_pool?filter_path=nodes.*.thread_pool.write.size", nil)
	if err != nil {
		return 0 // who may not ask may still write
	}
	gjson.GetBytes(answer, "nodes").ForEach(func(_, node gjson.Result) bool {
		n += int(node.Get("thread_pool.write.size").Int())
		return true
	})
	return n
}

// Perform sends a request whose URL has a path only, and gives the answer
// whatever it is.
func (c *Client) Perform(req *http.Request) (*http.Response, error) { return c.transport.Perform(req) }

// Do sends a request, with a body of JSON unless it is nil, and gives the body
// of a 2xx answer, which is valid JSON. Every other outcome is an *Error.
func (c *Client) Do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	contentType := ""
	if body != nil {
		contentType = "application/json"
	}
	return c.call(ctx, method, path, contentType, body)
}

// call is a request whose answer is valid JSON.
func (c *Client) call(ctx context.Context, method, path, contentType string, body ...[]byte) ([]byte, error) {
	answer, err := c.request(ctx, method, path, contentType, body...)
	if err != nil {
		return nil, err
	}
	return valid(answer)
}

func valid(answer []byte) ([]byte, error) {
	if !gjson.ValidBytes(answer) {
		return nil, &Error{Err: fmt.Errorf("the answer is not JSON: %s", beginning(answer)), strange: true}
	}
	return answer, nil
}

// request sends one request, with a body of so many parts, and gives the body of a 2xx
// answer. Every other outcome is an *Error.
func (c *Client) request(ctx context.Context, method, path, contentType string, body ...[]byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	squeeze := c.gzip && contentType == ndjson
	if squeeze {
		body = [][]byte{compressed(body)}
	}
	req, err := http.NewRequestWithContext(ctx, method, path, nil)
	if err != nil {
		return nil, &Error{Err: err}
	}
	if req.ContentLength = int64(sizeOf(body)); req.ContentLength > 0 {
		req.GetBody = func() (io.ReadCloser, error) {
			parts := net.Buffers(slices.Clone(body)) // reading consumes them
			return io.NopCloser(&parts), nil
		}
		req.Body, _ = req.GetBody()
	}
	if squeeze {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.transport.Perform(req)
	if err != nil {
		return nil, &Error{Err: err}
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, c.maxAnswer+1))
	switch {
	case err != nil:
		return nil, &Error{Err: err}
	case res.StatusCode/100 != 2:
		return nil, answeredError(res.StatusCode, answer)
	case int64(len(answer)) > c.maxAnswer:
		return nil, &Error{Err: errTooLong}
	}
	return answer, nil
}
