package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"wsrelay/console"
	"wsrelay/receiver/sqlite"
)

type searchCmd struct {
	Words []string `arg:"" help:"All of these words, in any order; 'a phrase' with quotes of its own; the beginning of a word with *."`
	To    string   `default:"sqlite:./wsreceive.db" placeholder:"STORE" help:"The embedded store. Default: ${default}."`
	Limit int      `default:"100" placeholder:"N" help:"So many lines at most, the newest. Default: ${default}."`
	JSON  bool     `help:"One JSON object a line: uid, time, host, line."`
}

// timeForm has a fixed width, so that columns line up and lines sort.
const timeForm = "2006-01-02T15:04:05.000Z"

// Run prints the newest lines that match, the oldest of them first.
func (c *searchCmd) Run(ctx context.Context, to *streams) (err error) {
	path, ok := strings.CutPrefix(c.To, "sqlite:")
	if !ok || path == "" || c.Limit < 1 {
		return &console.Complaint{
			Err: fmt.Errorf("cannot search %s for %d lines", c.To, c.Limit), Code: exitUsage,
			Hint: "search reads the embedded store, --to sqlite:PATH, and wants a --limit of at least 1",
		}
	}
	store, err := sqlite.OpenReader(path)
	if err != nil {
		return &console.Complaint{Err: err, Code: 1, Hint: "--to sqlite:PATH says where wsreceive stores"}
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	hits, err := store.Search(ctx, strings.Join(c.Words, " "), c.Limit)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(to.out)
	for _, h := range slices.Backward(hits) {
		c.print(out, h)
	}
	return out.Flush()
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

// harmless shows control characters instead of sending them to a terminal: a
// log line is written by strangers.
func harmless(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isControl(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isControl(r rune) bool { return unicode.IsControl(r) && r != '\t' }
