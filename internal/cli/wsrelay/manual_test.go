package wsrelay

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wsrelay/internal/cli/options"
	"wsrelay/test/manual"
)

func TestManual_KnowsEveryOption(t *testing.T) {
	k, err := parser(&commandLine{}, &options.Sources{}, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	manual.Test(t, k.Model, "../../../packaging")
}

// What the documentation puts between the parentheses of options() is options.
func TestDocs_SetOptionsThatThereAre(t *testing.T) {
	found := 0
	for _, pattern := range []string{
		"README.md", "docs/*.md", "syslog-ng/*", "syslog-ng/*/*", "examples/*/*",
		"packaging/wsrelay/*.conf",
	} {
		names, err := filepath.Glob("../../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, _ := os.ReadFile(name) // of a directory there is none
			for _, m := range regexp.MustCompile(`options\("([^"…]+)"\)`).FindAllStringSubmatch(string(text), -1) {
				found++
				file := filepath.Join(t.TempDir(), "options")
				lines := strings.NewReplacer(`\n`, "\n", "/etc/wsrelay/", "../../../packaging/wsrelay/").Replace(m[1])
				if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
					t.Fatal(err)
				}
				fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := parse(&commandLine{}, []string{"--options-fd", strconv.Itoa(fd), "ws://127.0.0.1/relay"},
					io.Discard); err != nil {
					t.Errorf("%s: %s: %v", name, m[0], err)
				}
			}
		}
	}
	if found < 4 {
		t.Errorf("only %d were found", found)
	}
}
