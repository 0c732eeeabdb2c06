package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"wsrelay/console"
	"wsrelay/receiver/sqlite"
)

type searchCmd struct {
	Words  []string `arg:"" optional:"" name:"query" help:"What to look for. Without it: every line."`
	To     string   `default:"sqlite:./wsreceive.db" placeholder:"STORE" help:"The embedded store. Default: ${default}."`
	Limit  int      `default:"100" placeholder:"N" help:"So many lines at most, the newest. Default: ${default}."`
	From   string   `placeholder:"TIME" help:"Not older than this: 2026-03-14T15:00:00Z, 2026-03-14 15:00 (UTC), or -1h30m, -7d."`
	Until  string   `placeholder:"TIME" help:"Older than this, in the same forms."`
	Follow bool     `short:"f" help:"Go on with lines as they are stored, until interrupted."`
	JSON   bool     `help:"One JSON object a line: uid, time, host, line."`
}

// Help is shown below the options.
func (c *searchCmd) Help() string {
	return `The query:

  error timeout          both words, anywhere in the line, in upper or lower case
  '"failed password"'    these words one after the other
  time*                  a word that begins so
  status:404             this word in a field of a JSON line (name=value in others)
  'path:="/a b"'         a field with just this value; user:* with any
  host: program: severity: sid: uid:
                         fields that every line can have
  'a OR b'  -c  NOT c    either, and not; AND need not be written
  '(a OR b) c'           parentheses group
  from:-1h to:-5m        of this time, as with --from and --until

Put a query with -, quotes or parentheses into quotes of the shell, and one that
begins with - behind "--".`
}

// timeForm has a fixed width, so that columns line up and lines sort.
const timeForm = "2006-01-02T15:04:05.000Z"

// Run prints the newest lines that match, the oldest of them first, and those
// that come then.
func (c *searchCmd) Run(ctx context.Context, to *streams) (err error) {
	path, ok := storePath(c.To)
	if !ok || c.Limit < 1 {
		return &console.Complaint{
			Err: fmt.Errorf("cannot search %s for %d lines", c.To, c.Limit), Code: exitUsage,
			Hint: "search reads the embedded store, --to sqlite:PATH, and wants a --limit of at least 1",
		}
	}
	query, err := c.query(time.Now())
	if err != nil {
		return &console.Complaint{Err: err, Code: exitUsage, Hint: "wsreceive search --help shows how a query is written"}
	}
	store, err := sqlite.OpenReader(path)
	if err != nil {
		return &console.Complaint{Err: err, Code: 1, Hint: "--to sqlite:PATH says where wsreceive stores"}
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	found, err := store.Search(ctx, sqlite.Request{Query: query, Limit: c.Limit})
	if err != nil {
		return err
	}
	out := bufio.NewWriter(to.out)
	for _, h := range slices.Backward(found.Hits) {
		c.print(out, h)
	}
	if err := out.Flush(); err != nil || !c.Follow {
		return err
	}
	err = store.Follow(ctx, query, found.Mark, func(hits []sqlite.Hit) error {
		for _, h := range hits {
			c.print(out, h)
		}
		return out.Flush()
	})
	if ctx.Err() != nil {
		return nil // this is how it ends
	}
	return err
}

// storePath gives the path of the embedded store that --to names.
func storePath(to string) (path string, ok bool) {
	path, ok = strings.CutPrefix(to, "sqlite:")
	return path, ok && path != ""
}

// query puts together what was asked for.
func (c *searchCmd) query(now time.Time) (*sqlite.Query, error) {
	query, err := sqlite.ParseQuery(strings.Join(c.Words, " "), now)
	if err != nil {
		return nil, err
	}
	var bounds [2]time.Time
	for i, option := range []struct{ name, value string }{{"--from", c.From}, {"--until", c.Until}} {
		if option.value == "" {
			continue
		}
		if bounds[i], err = sqlite.ParseTime(option.value, now); err != nil {
			return nil, fmt.Errorf("%s: %w", option.name, err)
		}
	}
	return query.Within(bounds[0], bounds[1]), nil
}

func (c *searchCmd) print(out *bufio.Writer, h sqlite.Hit) {
	at := h.Time.UTC().Format(timeForm)
	if !c.JSON {
		fmt.Fprintf(out, "%s %s %s\n", at, harmless(h.Host), harmless(h.Line))
		return
	}
	_ = json.NewEncoder(out).Encode(hit{h.UID, at, h.Host, h.Line}) // Flush says what went wrong
}

type hit struct {
	UID  string `json:"uid"`
	Time string `json:"time"`
	Host string `json:"host"`
	Line string `json:"line"`
}

// harmless shows control characters, those that turn the direction of writing,
// and bytes that are no UTF-8, which a terminal may take for control characters,
// instead of sending them there: a log line is written by strangers.
func harmless(s string) string {
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
