package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What an operator may read has a row in operations.md, and no row is about
// something that nothing says any more.
func TestOperations_ExplainsEveryMessage(t *testing.T) {
	said, texts := messages(t)
	explained := rows(t)
	for _, m := range slices.Sorted(maps.Keys(said)) {
		if !explained[m] {
			t.Errorf("operations.md has no row for %q of %s", m, said[m])
		}
	}
	for _, m := range slices.Sorted(maps.Keys(explained)) {
		if !texts[m] {
			t.Errorf("operations.md explains %q, which nothing says", m)
		}
	}
	if len(said) < 100 {
		t.Errorf("only %d messages were found", len(said))
	}
}

// rows are the code spans of first cells in the tables of messages.
func rows(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("operations.md")
	if err != nil {
		t.Fatal(err)
	}
	all, inside := map[string]bool{}, false
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		switch {
		case len(cells) < 3:
			inside = false
		case strings.Contains(line, "| what it means"):
			inside = true
		case inside:
			for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				all[span[1]] = true
			}
		}
	}
	return all
}

// messages gives what warnings, errors and complaints say, with the place of
// each, and the text of every expression.
func messages(t *testing.T) (said map[string]token.Position, texts map[string]bool) {
	t.Helper()
	said, texts = map[string]token.Position{}, map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{"bench", "test", "tools", ".git"}, d.Name()):
			return fs.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if m, ok := text(e); ok {
					texts[m] = true
				}
			}
			if m, ok := text(message(n)); ok {
				said[m] = files.Position(n.Pos())
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return said, texts
}

// message is the expression in n that says what has happened, if n is such a
// thing: a log record, or what becomes one.
func message(n ast.Node) ast.Expr {
	switch n := n.(type) {
	case *ast.CallExpr:
		argument, ok := map[string]int{"Warn": 0, "Error": 0, "Log": 2, "wait": 0, "hold": 0, "Passing": 0, "Lasting": 0}[name(n.Fun)]
		if ok && argument < len(n.Args) {
			return n.Args[argument]
		}
	case *ast.CompositeLit:
		if !slices.Contains([]string{"Complaint", "Fault", "Problem"}, name(n.Type)) {
			break
		}
		for _, e := range n.Elts {
			field, ok := e.(*ast.KeyValueExpr)
			if !ok {
				return e
			}
			if key := name(field.Key); key == "Err" && name(n.Type) == "Complaint" || key == "What" {
				return field.Value
			}
		}
	}
	return nil
}

func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

var (
	verb = regexp.MustCompile(`%[.0-9]*[a-z]`)
	ends = regexp.MustCompile(`^…:? ?|(:? ?…)+$`)
)

// text is what e says, "…" for what is not known before it runs; at its ends
// that is left out.
func text(e ast.Expr) (string, bool) {
	s, ok := literal(e)
	s = ends.ReplaceAllString(s, "")
	return s, ok && s != ""
}

func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, err := strconv.Unquote(e.Value)
			return verb.ReplaceAllString(s, "…"), err == nil
		}
	case *ast.BinaryExpr:
		left, isLeft := literal(e.X)
		right, isRight := literal(e.Y)
		return left + right, e.Op == token.ADD && (isLeft || isRight)
	case *ast.CallExpr:
		if slices.Contains([]string{"New", "Errorf", "Sprintf"}, name(e.Fun)) && len(e.Args) > 0 {
			return literal(e.Args[0])
		}
	}
	return "…", false
}
