// Package manual writes what a man page and the shells should know of a command
// line, out of its kong model. The tests of each program hold the files in
// packaging/ against it, so that no option is missing there, or too many.
package manual

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write the manuals and completions anew")

// The generated part of a man page stands between these.
const begin, end = `.\" what follows is made from the program's options by make docs` + "\n",
	`.\" end of what is made` + "\n"

// Test holds the man page and the completions of a program, in the directory
// packaging, against its model. With -update it writes them.
func Test(t *testing.T, app *kong.Application, packaging string) {
	t.Helper()
	path := fmt.Sprintf("%s/man/%s.1", packaging, app.Name)
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(page, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatalf("%s lacks the two lines around what is generated", path)
	}
	same(t, path, fmt.Sprintf("%s%s%s%s%s", head, begin, options(app), end, tail))
	examples(t, app, string(tail))
	for shell, c := range map[string]struct{ file, text string }{
		"bash": {app.Name + ".bash", bash(app)}, "zsh": {"_" + app.Name, zsh(app)}, "fish": {app.Name + ".fish", fish(app)},
	} {
		path := packaging + "/completions/" + c.file
		same(t, path, c.text)
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		if out, err := exec.CommandContext(t.Context(), shell, "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s does not take %s: %v\n%s", shell, path, err, out)
		}
	}
}

func same(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // to be read by all
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the program's options are (%v): make docs", path, err)
	}
}

// examples looks up the options in the examples of a man page.
func examples(t *testing.T, app *kong.Application, tail string) {
	t.Helper()
	_, text, _ := strings.Cut(tail, ".SH EXAMPLES")
	text, _, _ = strings.Cut(strings.ReplaceAll(text, `\-`, "-"), ".SH ")
	found := 0
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != app.Name {
			continue
		}
		found++
		node := app.DefaultCmd
		for _, c := range commands(app) {
			if n := name(app, c); n != "" && strings.HasPrefix(line, app.Name+" "+n+" ") {
				node = c
			}
		}
		for _, word := range words {
			if flag, ok := strings.CutPrefix(word, "--"); ok && !hasFlag(node, flag) {
				t.Errorf("an example of the man page has an option that there is not: %s", line)
			}
		}
	}
	if found < 5 {
		t.Errorf("the man page has %d examples", found)
	}
}

func hasFlag(node *kong.Node, name string) bool {
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			if f.Name == name {
				return true
			}
		}
	}
	return false
}

// commands gives the program's commands, that are to be seen, by their whole
// names; the default one has none.
func commands(app *kong.Application) (all []*kong.Node) {
	for _, leaf := range app.Leaves(true) {
		if leaf == app.DefaultCmd {
			all = append([]*kong.Node{leaf}, all...)
			continue
		}
		all = append(all, leaf)
	}
	return all
}

// name is what stands on the command line before the options: "queue dump".
func name(app *kong.Application, c *kong.Node) string {
	if c == app.DefaultCmd {
		return ""
	}
	return strings.TrimPrefix(c.FullPath(), app.Name+" ")
}

func flags(c *kong.Node) (all []*kong.Flag) {
	for _, group := range c.AllFlags(true) {
		for _, f := range group {
			if f.Name != "help" && f.Name != "version" {
				all = append(all, f)
			}
		}
	}
	return all
}

// options is the part of the man page with the commands and their options.
func options(app *kong.Application) string {
	var w strings.Builder
	for _, c := range commands(app) {
		if c == app.DefaultCmd {
			fmt.Fprintf(&w, ".SH OPTIONS\n")
		} else {
			if !strings.Contains(w.String(), ".SH COMMANDS") {
				fmt.Fprintf(&w, ".SH COMMANDS\n")
			}
			fmt.Fprintf(&w, ".SS %s\n%s\n", roff(strings.TrimSpace(app.Name+" "+name(app, c)+arguments(c))),
				roff(c.Help))
			if c.Detail != "" {
				fmt.Fprintf(&w, ".PP\n%s\n", roff(c.Detail))
			}
		}
		for _, f := range flags(c) {
			fmt.Fprintf(&w, ".TP\n.B %s\n%s\n", roff(synopsis(f)), roff(f.Help))
		}
		if c == app.DefaultCmd && c.Detail != "" {
			fmt.Fprintf(&w, ".SS Notes on the options\n%s\n", roff(c.Detail))
		}
	}
	return w.String()
}

func arguments(c *kong.Node) string {
	var w strings.Builder
	for _, p := range c.Positional {
		w.WriteString(" " + p.Summary())
	}
	return w.String()
}

func synopsis(f *kong.Flag) string {
	s := "--" + f.Name
	if f.Short != 0 {
		s = "-" + string(f.Short) + ", " + s
	}
	switch {
	case f.IsBool():
		return s
	case f.Enum != "":
		return s + "=" + strings.Join(f.EnumSlice(), "|")
	}
	return s + "=" + placeholder(f)
}

func placeholder(f *kong.Flag) string {
	if f.PlaceHolder != "" {
		return f.PlaceHolder
	}
	return strings.ToUpper(f.Name[strings.LastIndexByte(f.Name, '-')+1:])
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", "\\`", "\n\n", "\n.PP\n", "\n", "\n.br\n")

// roff makes text that no line of can be taken for a request.
func roff(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for k, l := range lines {
		lines[k] = strings.TrimSpace(l)
		if strings.HasPrefix(lines[k], ".") {
			lines[k] = `\&` + lines[k]
		}
	}
	return roffEscapes.Replace(strings.Join(lines, "\n"))
}
