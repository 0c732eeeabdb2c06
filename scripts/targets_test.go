package scripts

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// go test is content with a pattern that matches nothing: each part of a pattern that
// the Makefiles, the scripts and the documents give it has to match in one of its folders.
func TestTargets_EachPatternFindsATest(t *testing.T) {
	pattern := regexp.MustCompile(`-(run|bench) ('[^']*'|"[^"]*"|[^\s` + "`" + `]+)`)
	folder := regexp.MustCompile(` (\./[\w/.]+|\.)`)
	function := regexp.MustCompile(`(?m)^func ((Test|Fuzz|Benchmark)\w+)`)
	files := []string{"../Makefile", "../long.mk", "../.ci/run"}
	for _, more := range []string{"*.sh", "../*.md", "../docs/*.md", "../docs/adr/*.md"} {
		names, _ := filepath.Glob(more) // the pattern is good
		files = append(files, names...)
	}
	seen := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(strings.ReplaceAll(string(text), "$(GO)", "go")) {
			_, command, found := strings.Cut(line, "go test ")
			if command, _, _ = strings.Cut(command, "`"); !found || strings.Contains(command, "$packages") {
				continue
			}
			var names []string
			for _, dir := range folder.FindAllStringSubmatch(" "+command, -1) {
				for _, f := range function.FindAllStringSubmatch(testsBelow(t, dir[1]), -1) {
					names = append(names, f[1])
				}
			}
			for _, m := range pattern.FindAllStringSubmatch(command, -1) {
				for part := range strings.SplitSeq(strings.Trim(m[2], `'"`), "|") {
					if part = strings.TrimSuffix(part, `\`); strings.ContainsAny(part, "$*") && !strings.HasSuffix(part, "$") ||
						part == "^$" || part == "^$$" || part == "." || part == "NAME" {
						continue // none, all, or the caller's
					}
					seen++
					want, ok := regexp.MustCompile(strings.ReplaceAll(part, "$$", "$")), false
					for _, name := range names {
						ok = ok || want.MatchString(name) || m[1] == "bench" && want.MatchString(strings.TrimPrefix(name, "Benchmark"))
					}
					if !ok {
						t.Errorf("%s: nothing matches %q: %s", name, part, strings.TrimSpace(command))
					}
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d patterns found: are they written in another way?", seen)
	}
}

// testsBelow gives the text of the tests in a folder of the project, with /... in all
// below it.
func testsBelow(t *testing.T, dir string) (text string) {
	t.Helper()
	dir, all := strings.CutSuffix(dir, "/...")
	err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != filepath.Join("..", dir) && !all:
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			b, err := os.ReadFile(path)
			text += string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return text
}
