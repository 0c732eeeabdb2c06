package docs

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Users read messages, help and documents. The glossary names the words that
// are not used there, because another term has the same meaning.
func TestWords_TheGlossaryRulesOutAreNotUsed(t *testing.T) {
	banned := bannedWords(t)
	_, texts := messages(t)
	for _, text := range slices.Sorted(maps.Keys(texts)) {
		if word := banned.FindString(text); word != "" && strings.Contains(text, " ") {
			t.Errorf("%q in a text of the programs: %q", word, text)
		}
	}
	for _, path := range documents(t) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			n++
			if word := banned.FindString(line); word != "" {
				t.Errorf("%q in %s:%d", word, path, n)
			}
		}
	}
}

// Comments and the names of tests use the same words.
func TestWords_TheGlossaryRulesOutAreNotUsedInTheCode(t *testing.T) {
	banned := bannedWords(t)
	comment, name := regexp.MustCompile(`(?:^|\s)//\s?(.*)`), regexp.MustCompile(`^func (?:Test|Fuzz|Benchmark)(\w+)`)
	word := regexp.MustCompile(`[A-Z][a-z]+|_`)
	n := 0
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		b, err := os.ReadFile(path)
		for line := range strings.Lines(string(b)) {
			text := ""
			if m := comment.FindStringSubmatch(line); m != nil {
				text = m[1]
			}
			if m := name.FindStringSubmatch(line); m != nil {
				text += " " + strings.Join(word.FindAllString(m[1], -1), " ")
				n++
			}
			if found := banned.FindString(text); found != "" {
				t.Errorf("%q in %s: %s", found, path, strings.TrimSpace(line))
			}
		}
		return err
	})
	if err != nil || n < 1000 {
		t.Errorf("%v; %d tests", err, n)
	}
}

// bannedWords matches what style.md lists after "Not used in text for users".
func bannedWords(t *testing.T) *regexp.Regexp {
	t.Helper()
	b, err := os.ReadFile("style.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(b), "Not used in text for users")
	var words []string
	for _, m := range regexp.MustCompile(`\*([^*]+)\*`).FindAllStringSubmatch(list, -1) {
		words = append(words, regexp.QuoteMeta(m[1]))
	}
	if len(words) < 10 {
		t.Fatalf("style.md lists only %d words", len(words))
	}
	return regexp.MustCompile(`(?i)\b(` + strings.Join(words, "|") + `)\b`)
}

// documents are the pages for users and the man pages. The wire protocol has
// terms of its own, and style.md is the list.
func documents(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "dist", "testdata", "results"}, name):
			return fs.SkipDir
		case name == "protocol.md" || name == "style.md" || d.IsDir():
		case filepath.Ext(name) == ".md" || filepath.Base(filepath.Dir(path)) == "man":
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d documents were found", len(all))
	}
	return all
}
