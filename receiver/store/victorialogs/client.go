package victorialogs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"wsrelay/receiver/store/logs/logsql"
)

// client speaks to the server.
type client struct {
	http.Client
	base *url.URL
}

func newClient(address string) (*client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not the address of a server: http://HOST:9428", address)
	}
	return &client{Client: http.Client{Timeout: 2 * time.Minute}, base: u}, nil
}

// request sends a body, or a form if there is none.
func (c *client) request(ctx context.Context, path string, args url.Values, body io.Reader) (io.ReadCloser, error) {
	u := c.base.JoinPath(path)
	form := body == nil
	if form {
		body = strings.NewReader(args.Encode())
	} else {
		u.RawQuery = args.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
	if err != nil {
		return nil, err
	}
	if form {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if user := c.base.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	res, err := c.Do(req)
	if err != nil {
		if cause, ok := errors.AsType[*url.Error](err); ok { // it shows the address
			err = cause.Err
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if res.StatusCode/100 == 2 {
		return res.Body, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
	return nil, fmt.Errorf("%s: the server answers %s: %q", path, res.Status, strings.TrimSpace(string(text)))
}

// insert adds rows; the first fields of each, which are named, are its stream's.
func (c *client) insert(ctx context.Context, stream string, rows []byte) error {
	body, err := c.request(ctx, "/insert/jsonline", url.Values{
		"_stream_fields": {stream}, "_time_field": {"_time"},
		"_msg_field": {"_msg"},
	}, bytes.NewReader(rows))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	return errors.Join(err, body.Close())
}

// query calls f with each row of an answer. An answer that ends early is an error.
func (c *client) query(ctx context.Context, q string, f func(map[string]string) error) error {
	body, err := c.request(ctx, "/select/logsql/query", url.Values{"query": {q}, "timeout": {"110s"}}, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for in := json.NewDecoder(bufio.NewReader(body)); ; {
		row := map[string]string{}
		switch err := in.Decode(&row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the answer to a query ends early: %w", err)
		}
		if err := f(row); err != nil {
			return err
		}
	}
}

// server is what a server says of itself.
type server struct {
	started string        // when
	flush   time.Duration // -inmemoryDataFlushInterval
	oldest  time.Duration // age of the oldest rows that it takes
	newest  time.Duration // how far in the future the newest may be
	maxLine int           // bytes of a row
}

// inspect asks the server.
func (c *client) inspect(ctx context.Context) (s server, err error) {
	body, err := c.request(ctx, "/metrics", nil, nil)
	if err != nil {
		return s, err
	}
	defer body.Close()
	flags := map[string]string{}
	lines := bufio.NewScanner(body)
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		line := lines.Text()
		if started, ok := strings.CutPrefix(line, "vm_app_start_timestamp "); ok {
			s.started = started
		}
		if rest, ok := strings.CutPrefix(line, `flag{name="`); ok {
			name, rest, _ := strings.Cut(rest, `", value="`)
			value, _, _ := strings.Cut(rest, `"`)
			flags[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		return s, err
	}
	s.flush, err = time.ParseDuration(flags["inmemoryDataFlushInterval"])
	if err != nil || s.started == "" {
		return s, errors.New("/metrics does not tell when it started and its -inmemoryDataFlushInterval: this is not a single VictoriaLogs server")
	}
	s.oldest, s.newest = span(flags["retentionPeriod"], 7*day), span(flags["futureRetention"], 2*day)
	if backfill := span(flags["maxBackfillAge"], 0); backfill > 0 {
		s.oldest = min(s.oldest, backfill)
	}
	s.maxLine = 256 << 10
	if n, err := strconv.Atoi(flags["insert.maxLineSizeBytes"]); err == nil {
		s.maxLine = n
	}
	return s, nil
}

const day = 24 * time.Hour

// span is the value of a flag; other, where it is none or of another form: a row
// that the server drops for it is noticed later.
func span(value string, other time.Duration) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSuffix(value, "y")); err == nil && n > 0 && strings.HasSuffix(value, "y") {
		return time.Duration(min(n, 100)) * 365 * day
	}
	if d, err := logsql.ParseSpan(value); err == nil {
		return d
	}
	return other
}
