package logsql

import (
	"errors"
	"strings"
	"testing"
)

func TestCheck_SaysInPlainWordsWhatIsWrongAndWhere(t *testing.T) {
	for query, want := range map[string]struct{ problem, understood string }{
		`a (b`:  {"a closing parenthesis is missing", `a (b`},
		`a ) b`: {`")" is not expected here`, `a `},
		`status:>=(`: {
			`"(" is not expected here; put it into quotes to search for it`,
			`status:>=(`,
		},
		`status:>=`:                       {"something is missing here", `status:>=`},
		`a or`:                            {"something is missing here", `a or`},
		`"a`:                              {"the quotes are not closed", `"`},
		"'a":                              {"the quotes are not closed", `'`},
		`a |`:                             {"something is missing after |", `a |`},
		`a | foo`:                         {`"foo" cannot stand after |; write a or b to look for either`, `a | foo`},
		`a | stats by (x`:                 {"something is missing here", `a | stats by (x`},
		`a | stats blah() y`:              {`"blah" is not a function of stats`, `a | stats blah`},
		`a | limit x`:                     {`"x" is not a number`, `a | limit x`},
		`a | sort by`:                     {"something is missing here", `a | sort by`},
		`x:~"("`:                          {"this is not a regular expression: missing closing ): `(`", `x:~"("`},
		`_time:yesterday`:                 {`"yesterday" is not a time`, `_time:yesterday`},
		`a=b`:                             {`between "a" and "=" must be a space or a colon, or quotes around the whole`, `a=`},
		`host:in(a`:                       {"something is missing here", `host:in(a`},
		strings.Repeat("a ", 40) + `(b c`: {"a closing parenthesis is missing", strings.Repeat("a ", 40) + `(b c`},
	} {
		var e *Error
		if err := Check(query); !errors.As(err, &e) {
			t.Errorf("%s: got %v", query, err)
		} else if e.Problem != want.problem || e.Query[:e.At] != want.understood {
			t.Errorf("%s: got %q after %q, want %q after %q", query, e.Problem, e.Query[:e.At], want.problem,
				want.understood)
		}
	}
	if err := Check("a | stats by (host) count()"); err != nil {
		t.Error(err)
	}
}

func TestExplain_LeavesOutFlagsAndLinks(t *testing.T) {
	got := explain(`cannot parse "top" pipe: something new; see https://docs.example/; context: [a | top]`)
	if got != `cannot parse "top" pipe: something new` {
		t.Error(got)
	}
}

func FuzzCheck(f *testing.F) {
	for _, q := range []string{`a (b`, `]; context: [`, `]; tail: [`, "a\xff (", strings.Repeat("é (", 40)} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) {
		var e *Error
		if err := Check(q); errors.As(err, &e) && (e.At < 0 || e.At > len(q) || e.Problem == "" || e.Error() == "") {
			t.Errorf("%q: %+v", q, e)
		}
	})
}

// What Plain makes is LogsQL, which it leaves as it is: so a query can be handed on.
func TestPlain_LeavesWhatItHasMade(t *testing.T) {
	for _, q := range []string{
		"", "*", "error timeout", `"failed password"`, "time*", "错误", "*pointerexc*", "a or -b",
		"status:>=500 x", "10:15:30", "http://a/b", `"a\"b"`, "'x y'",
	} {
		once, _ := Plain(q)
		if twice, pipes := Plain(once); twice != once || pipes != "" {
			t.Errorf("%s: %s, then %s %s", q, once, twice, pipes)
		}
		if within := "_time:>=2026-01-01T00:00:00Z (" + once + ")"; true {
			if twice, _ := Plain(within); twice != within {
				t.Errorf("%s: %s, then %s", q, within, twice)
			}
		}
	}
}
