package wsreceive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/tidwall/gjson"
	"golang.org/x/term"
)

// tableRows is how many rows are looked at for the widths of the columns.
const tableRows = 1000

// results prints what pipes make of lines, and tells how many rows that is: for a
// terminal a table, else JSON.
func (c *searchCmd) results(ctx context.Context, store database, query string, to io.Writer,
	out *bufio.Writer,
) (rows int, err error) {
	body, err := store.get(ctx, "/select/logsql/query", url.Values{"query": {query}})
	if err != nil {
		return 0, err
	}
	defer body.Close()
	each := func(line string) { fmt.Fprintln(out, escapeControls(line)) }
	if f, ok := to.(*os.File); ok && c.Output == "short" && term.IsTerminal(int(f.Fd())) {
		t := &table{out: out}
		defer t.flush()
		each = t.add
	}
	in := bufio.NewReader(body)
	for {
		line, err := in.ReadString('\n')
		switch line = strings.TrimSuffix(line, "\n"); {
		case line != "" && line[0] != '{': // why it breaks off
			return rows, errors.New(escapeControls(line))
		case line != "":
			rows++
			each(line)
		}
		switch {
		case errors.Is(err, io.EOF):
			return rows, nil
		case err != nil:
			return rows, fmt.Errorf("the answer is incomplete: %w", err)
		}
	}
}

// table prints objects as rows. Columns that come later than the first rows stand
// at their end, under a new head.
type table struct {
	out     io.Writer
	columns []string
	at      map[string]int
	rows    [][]string
}

func (t *table) add(object string) {
	row := make([]string, len(t.columns))
	gjson.Parse(object).ForEach(func(name, value gjson.Result) bool {
		i, ok := t.at[name.String()]
		if !ok {
			if t.at == nil {
				t.at = map[string]int{}
			}
			i = len(t.columns)
			t.at[name.String()] = i
			t.columns, row = append(t.columns, name.String()), append(row, "")
		}
		row[i] = value.String()
		return true
	})
	if t.rows = append(t.rows, row); len(t.rows) == tableRows {
		t.flush()
	}
}

func (t *table) flush() {
	if len(t.rows) == 0 {
		return
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.columns}, t.rows...) {
		for i, cell := range row {
			row[i] = strings.ReplaceAll(escapeControls(cell), "\t", `\x09`)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // out says what went wrong
	t.rows = nil
}
