package handshake

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// constants are those of frame.go and auth.go whose names begin with prefix, as
// they stand there.
func constants(t *testing.T, prefix string) (values []string) {
	t.Helper()
	for _, name := range []string{"frame.go", "auth.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if ok && strings.HasPrefix(spec.Names[0].Name, prefix) && len(spec.Values) == 1 {
				if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
					values = append(values, strings.Trim(lit.Value, `"`))
				}
			}
			return true
		})
	}
	if len(values) == 0 {
		t.Fatalf("no constant begins with %s", prefix)
	}
	return values
}

// chapter is the text below a heading of docs/protocol.md, up to the next of
// its level or above.
func chapter(t *testing.T, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(protocol(t), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("docs/protocol.md has no %q", heading)
	}
	level := strings.Count(heading, "#")
	if end := regexp.MustCompile(`(?m)^#{1,` + strconv.Itoa(level) + `} `).FindStringIndex(text); end != nil {
		text = text[:end[0]]
	}
	return text
}

// cells are the matches of pattern in the first cells of the tables in text.
func cells(text, pattern string) (all []string) {
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(text, -1) {
		all = append(all, regexp.MustCompile(pattern).FindAllString(row[1], -1)...)
	}
	return all
}

func TestProtocolDocument_AndCodeKnowTheSameCloseCodes(t *testing.T) {
	ours := constants(t, "Close")
	rfc6455 := []string{"1000", "1001", "1002", "1003", "1007", "1008", "1009", "1011", "1012", "1013"} // 7.4.1, and the registry
	got, want := cells(chapter(t, "## Close codes"), `[0-9]{4}`), append(slices.Clone(rfc6455), ours...)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the table has   %v\nthe code, and RFC 6455, have %v", got, want)
	}
	for _, code := range regexp.MustCompile(`\b4[0-9]{3}\b`).FindAllString(protocol(t), -1) {
		if !slices.Contains(append(ours, "4096", "4999", "4000"), code) {
			t.Errorf("the document speaks of %s, the code does not", code)
		}
	}
}

func TestProtocolDocument_AndCodeKnowTheSameWords(t *testing.T) {
	same := func(what string, got, want []string) {
		t.Helper()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the document has %v, the code %v", what, got, want)
		}
	}
	var codes, reasons []string
	for _, cell := range cells(chapter(t, "### nak"), "`[a-z_]+`") {
		codes = append(codes, strings.Trim(cell, "`"))
	}
	same("nak.code", codes, constants(t, "Nak"))
	for _, m := range regexp.MustCompile("`([a-z]+)`: ").FindAllStringSubmatch(row(t, chapter(t, "### gap"), "why"), -1) {
		reasons = append(reasons, m[1])
	}
	same("gap.why", reasons, constants(t, "Gap"))
	for heading, members := range map[string]map[string]string{
		"### data":    {"enc": "Enc"},
		"### welcome": {"guarantee": "ExactlyOnce"},
		"### chal":    {"cb": "CB"},
		"### hello":   {"mech": "Mech", "enc": "Enc"},
	} {
		for member, prefix := range members {
			for _, value := range constants(t, prefix) {
				if line := row(t, chapter(t, heading), member); !strings.Contains(line, "`"+value+"`") {
					t.Errorf("%s, %s: no `%s` in %s", heading, member, value, line)
				}
			}
		}
	}
}

// row is the row of a member in the tables of text.
func row(t *testing.T, text, member string) string {
	t.Helper()
	line := regexp.MustCompile(`(?m)^\| ` + member + ` \|.*$`).FindString(text)
	if line == "" {
		t.Fatalf("no row about %s", member)
	}
	return line
}

// Each member of a frame has its row, and each row its member.
func TestProtocolDocument_AndCodeKnowTheSameMembers(t *testing.T) {
	for heading, frame := range map[string]any{
		"hello": Hello{}, "chal": Chal{}, "auth": Auth{}, "welcome": Welcome{}, "data": Data{}, "gap": Gap{},
		"ack": Ack{}, "busy": Busy{}, "nak": Nak{}, "bye": Bye{}, "err": Err{},
	} {
		table, _, _ := strings.Cut(chapter(t, "### "+heading), "\n| code | meaning")
		got := slices.DeleteFunc(cells(table, `[a-z_]+`), func(s string) bool { return s == "member" })
		var want []string
		for field := range reflect.TypeOf(frame).Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			want = append(want, name)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the table has %v, the code %v", heading, got, want)
		}
	}
}

func TestProtocolDocument_NamesTheLimits(t *testing.T) {
	limits := cells(chapter(t, "## Limits"), `^[0-9]+$`)
	for _, n := range []int{
		MaxHello, MaxControl, MaxHeader, MaxLine, MaxLines, MaxMessage, maxMembers, maxDepth, MaxRejected, MaxRejectedError, int(MaxWait.Milliseconds()),
	} {
		if !slices.Contains(limits, strconv.Itoa(n)) {
			t.Errorf("the table of limits has no %d", n)
		}
	}
}
