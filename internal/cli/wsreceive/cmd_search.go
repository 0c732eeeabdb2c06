package wsreceive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"wsrelay/internal/cli"
	"wsrelay/receiver"
	"wsrelay/receiver/store/logs"
	"wsrelay/receiver/store/logs/logsql"
)

type searchCmd struct {
	Words   []string `arg:"" optional:"" name:"query" help:"What to search for. Default: every line."`
	To      string   `default:"${logs}" placeholder:"STORE" help:"The log database. Default: ${default}."`
	Lines   int      `short:"n" default:"100" aliases:"limit" placeholder:"N" help:"Print at most N lines, the newest; with more than ${sorted}, any lines in any order. Default: ${default}."`
	Since   string   `short:"S" aliases:"from" placeholder:"TIME" help:"Search lines not older than this: '2026-03-14 15:00', 15:00, yesterday, -1h30m, '2 hours ago', 2026-03-14T15:00:00Z; in the local time zone."`
	Until   string   `short:"U" placeholder:"TIME" help:"Search lines older than this, in the same forms."`
	Context int      `short:"C" placeholder:"N" help:"Also print the N lines of the same host and program before and after each."`
	Follow  bool     `short:"f" help:"Continue to print lines as they are stored, until interrupted; also after wsreceive is restarted."`
	Output  string   `short:"o" default:"short" enum:"short,json,raw,csv" help:"Form of the output: short, json, raw, csv. Default: ${default}."`
	JSON    bool     `help:"Same as --output json."`
	remoteOptions
	configOption
}

// Help is shown below the options.
func (c *searchCmd) Help() string {
	return `The query is LogsQL. A word or a phrase without a field is looked for in every field, in upper or lower case:

  error timeout          both words
  '"failed password"'    these words one after the other
  'time*'                a word that begins so
  'a or b'  -c  'not c'  either, and not; "and" need not be written
  '(a or b) c'           parentheses group
  '"not found"' '"db1:5432"'  in quotes "not" is a word, and db1 no field
  status:404             this word in a field; 'status:>=500', 'status:!=200'
  'path:="/a b"'         a field with just this value
  'request:~"GET /a.*"'  a regular expression
  host: program: level:  fields that every line can have
  'status:>=500 | stats by (path) count() as n | sort by (n desc)'
                         counted, grouped, sorted: a table, or where the output is no terminal JSON

The forms of --output:

  short  time, host, program and message
  json   one object a line with uid, time, host and line; bytes that are not UTF-8 are in line64, too, in base64
  raw    the lines as they came
  csv    time, host, program, level, message and uid

Results of pipes are a table on a terminal, and JSON elsewhere.

Put a query with -, quotes or parentheses into quotes of the shell, and one that begins with - behind "--".

Exit status: 0 lines were found; 1 none was, or something else; 64 usage.`
}

// Run prints the newest lines that match, the oldest of them first, and those
// that come then.
func (c *searchCmd) Run(ctx context.Context, to *streams) error {
	if c.JSON {
		c.Output = "json"
	}
	filter, pipes, err := c.query(time.Now())
	switch {
	case err != nil:
	case c.Follow && pipes != "":
		err = errors.New("--follow prints lines, and takes a query without |")
	case c.Context != 0 && (pipes != "" || c.Follow || c.Context < 0 || c.Context > maxContext):
		err = fmt.Errorf("--context takes 1 to %d lines, a query without |, and no --follow", maxContext)
	case c.Lines < 1:
		err = fmt.Errorf("--lines %d is not a number of lines", c.Lines)
	}
	if err != nil {
		return &cli.Error{Err: err, Code: exitUsage, Hint: "wsreceive search --help shows how a query is written"}
	}
	store, stop, err := c.connect(ctx, to)
	if err != nil {
		return err
	}
	defer stop()
	p := c.printer(to.out)
	switch {
	case pipes != "":
		p.found, err = c.results(ctx, store, filter+" "+pipes, to.out, p.out)
	case c.Follow:
		err = c.follow(ctx, store, filter, p, newLogger(to.err, "warn", "text"))
	case c.Context > 0:
		err = c.around(ctx, store, filter, p)
	default:
		err = store.lines(ctx, c.args(filter), p.print)
	}
	err = errors.Join(err, p.out.Flush())
	switch {
	case errors.Is(err, syscall.EPIPE): // who reads has seen enough
		return nil
	case err != nil:
		return err
	case p.unreadable > 0:
		return &cli.Error{
			Err: fmt.Errorf("%d lines cannot be read, the first of them %s", p.unreadable, p.why), Code: 1,
			Effect: "they are not printed; the others are",
			Hint:   "the folder blobs or the file skeletons of the store is damaged: look for these lines in a backup",
		}
	case p.found == 0 && !c.Follow:
		if p.tty {
			fmt.Fprintln(to.err, "wsreceive: nothing found; a line can be found about two seconds after it was logged")
		}
		return cli.Exit(1)
	}
	return nil
}

func (c *searchCmd) args(filter string) url.Values {
	return url.Values{"query": {filter}, "limit": {strconv.Itoa(c.Lines)}}
}

// query puts together what was asked for.
func (c *searchCmd) query(now time.Time) (filter, pipes string, err error) {
	var bounds [2]time.Time
	for i, option := range []struct{ name, value string }{{"--since", c.Since}, {"--until", c.Until}} {
		if option.value == "" {
			continue
		}
		if bounds[i], err = logsql.ParseTime(option.value, now); err != nil {
			return "", "", fmt.Errorf("%s: %w", option.name, err)
		}
	}
	if _, filter, pipes, err = logsql.ParseTyped(strings.Join(c.Words, " ")); err != nil {
		return "", "", fmt.Errorf("the query is not understood: %w", err)
	}
	return logsql.Within(filter, bounds[0], bounds[1]), pipes, nil
}

// database is a log database that answers queries.
type database interface {
	// lines calls f with the lines that the arguments query, limit and follow ask for.
	lines(ctx context.Context, args url.Values, f func(*logs.Found) error) error
	// get asks a path.
	get(ctx context.Context, path string, args url.Values) (io.ReadCloser, error)
}

// localDatabase is the log database of this host: that of the wsreceive which has it
// open, or, where none has, one that this process opens.
type localDatabase struct {
	http.Client
	close func()
}

// connect finds who answers for the log database that --url or --to names.
func (c *searchCmd) connect(ctx context.Context, to *streams) (store database, stop func(), err error) {
	if c.URL != "" {
		r, err := c.remoteOptions.connect(newLogger(to.err, "warn", "text"))
		if err != nil {
			return nil, nil, err
		}
		return r, r.CloseIdleConnections, nil
	}
	open := openDatabase
	if c.Follow {
		open = awaitSocket
	}
	d, err := open(ctx, c.To, to)
	if err != nil {
		return nil, nil, err
	}
	return d, d.close, nil
}

// databaseDir gives the directory of the log database that to names.
func databaseDir(to string) (string, error) {
	k, path, ok := kindOf(to)
	if !ok || !k.logs {
		return "", &cli.Error{
			Err: fmt.Errorf("--to %s is not the log database", withoutPassword(to)), Code: exitUsage,
			Hint: "use --to logs:DIR; search can also ask another host, with --url https://HOST:PORT",
		}
	}
	return path, nil
}

// answerTimeout is how long another process may have the store open without
// answering, and how long it may take until it begins to answer.
const answerTimeout = 2 * time.Minute

// openDatabase connects to the wsreceive that has the store open. If there is none,
// it opens the store for this command alone: one that served others would cut their
// answers short when it ends.
func openDatabase(ctx context.Context, store string, to *streams) (*localDatabase, error) {
	path, err := databaseDir(store)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	log := newLogger(to.err, "warn", "text")
	for start, warned := time.Now(), false; ; {
		if d, err := dialSocket(ctx, path); d != nil || err != nil {
			return d, err
		}
		store, err := logs.Open(path, logs.Options{Private: true, Log: log})
		if err == nil {
			d := newLocalDatabase(store.Dial)
			d.close = func() { _ = store.Close() } // what it has not written is still in the journal
			return d, nil
		}
		if !errors.Is(err, receiver.ErrInUse) || ctx.Err() != nil {
			return nil, &cli.Error{Err: err, Code: 1, Hint: logsNeeds}
		}
		if !warned && time.Since(start) > time.Second { // it starts, or ends
			warned = true
			log.Warn("the log database is in use", cli.Effect, "none: this command waits for up to 2 minutes",
				cli.Hint, "wait for another search or backup to end; a wsreceive that starts recovers its database first")
		}
		wait(ctx)
	}
}

// awaitSocket waits for a wsreceive that has the store open: no lines come without
// one, and none could start while this process had the store open.
func awaitSocket(ctx context.Context, store string, to *streams) (*localDatabase, error) {
	path, err := databaseDir(store)
	if err != nil {
		return nil, err
	}
	for warned := false; ; warned = true {
		if d, err := dialSocket(ctx, path); d != nil || err != nil {
			return d, err
		}
		if ctx.Err() != nil {
			return nil, cli.Exit(0)
		}
		if !warned {
			newLogger(to.err, "warn", "text").Warn("no wsreceive has the log database open", "path", path,
				cli.Effect, "lines are printed after one has started",
				cli.Hint, "search without --follow to see what is stored")
		}
		wait(ctx)
	}
}

// lockRetry is the time between two attempts to open a store that is in use.
const lockRetry = 100 * time.Millisecond

func wait(ctx context.Context) {
	select {
	case <-time.After(lockRetry):
	case <-ctx.Done():
	}
}

// dialSocket connects to the process that has the store open; nil if none answers.
func dialSocket(ctx context.Context, path string) (*localDatabase, error) {
	dial := func(ctx context.Context) (net.Conn, error) { return logs.Dial(ctx, path) }
	conn, err := dial(ctx)
	if err == nil {
		return newLocalDatabase(dial), conn.Close()
	}
	if _, err := os.Stat(path); err != nil {
		return nil, &cli.Error{Err: err, Code: 1, Hint: "--to logs:DIR says where wsreceive stores"}
	}
	if err := becomeOwner(path); err != nil {
		return nil, &cli.Error{Err: err, Code: 1, Hint: "run this as the user of wsreceive"}
	}
	return nil, nil
}

func newLocalDatabase(dial func(context.Context) (net.Conn, error)) *localDatabase {
	return &localDatabase{
		http.Client{Transport: &http.Transport{
			DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			ResponseHeaderTimeout: answerTimeout,
		}},
		func() {},
	}
}

// becomeOwner makes root the user that the store belongs to, so that no file in it
// becomes one that wsreceive cannot write.
func becomeOwner(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || st.Uid == 0 {
		return nil
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(int(st.Gid)), syscall.Setuid(int(st.Uid)))
}

// get implements database.
func (d *localDatabase) get(ctx context.Context, path string, args url.Values) (io.ReadCloser, error) {
	body, err := post(ctx, &d.Client, "http://store"+path, args, nil)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		err = &cli.Error{
			Err: errors.New("wsreceive exited before it answered"), Code: 1,
			Hint: "its log says why, such as journalctl -u wsreceive; then run this again",
		}
	}
	return body, err
}

// post sends a form, and gives the answer if it is one to the question.
func post(ctx context.Context, client *http.Client, address string, form url.Values,
	user *url.Userinfo,
) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return answered(client, req, user)
}

func answered(client *http.Client, req *http.Request, user *url.Userinfo) (io.ReadCloser, error) {
	if user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	message := strings.TrimSpace(string(text))
	c := &cli.Error{Err: errors.New(escapeControls(message)), Code: 1}
	switch res.StatusCode {
	case http.StatusBadRequest:
		c.Err, c.Code, c.Hint = errors.New(escapeControls(logsql.Explain(errors.New(message)).Error())), exitUsage,
			"wsreceive search --help shows how a query is written"
	case http.StatusUnauthorized:
		c.Hint = "give --user and --password-file; the users are in the file of --page-users there"
	case http.StatusNotFound:
		c.Err, c.Hint = fmt.Errorf("%s: %w", res.Status, c.Err), "only a wsreceive with --to logs:DIR can be searched"
	}
	return nil, c
}

// lines implements database.
func (d *localDatabase) lines(ctx context.Context, args url.Values, f func(*logs.Found) error) error {
	body, err := d.get(ctx, "/lines", args)
	if err != nil {
		return err
	}
	defer body.Close()
	return each(body, f)
}

// each calls f with each object of an answer, until f returns an error.
func each[T any](body io.Reader, f func(*T) error) error {
	for in := json.NewDecoder(body); ; {
		one := new(T)
		switch err := in.Decode(one); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", errEndsEarly, err)
		}
		if err := f(one); err != nil {
			return err
		}
	}
}

// escapeControls shows control characters, those that turn the direction of writing,
// and bytes that are no UTF-8, which a terminal may take for control characters,
// instead of sending them there: a log line is written by strangers.
func escapeControls(s string) string {
	if !strings.ContainsFunc(s, isControl) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, "\\x%02x", s[0])
		case isControl(r):
			fmt.Fprintf(&b, "\\x%02x", r)
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}

func isControl(r rune) bool {
	return unicode.IsControl(r) && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
}
