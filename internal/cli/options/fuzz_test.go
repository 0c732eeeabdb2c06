package options

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// FuzzRead gives arbitrary text, such as a configuration file or the arguments of
// a shell. What was read is the same when it is written down and read again.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		"listen = :8514\n# comment\n\nkeys=/etc/wsreceive/keys\n", "no form\n--a=b\n = c\n", "a = b = c\r\nx=\x00y",
		"\xff=\xfe\n",
		"/bin/sh\x00-c\x00# default\nexit\n\ninstance=default\nurl=ws://127.0.0.1/\n\x00rest",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, text := range [][]byte{text, ofShell(text)} {
			s := &Sources{}
			got, err := s.read(bytes.NewReader(text), "file")
			if err != nil && !strings.HasPrefix(err.Error(), "file") {
				t.Errorf("error does not name the file: %v", err)
			}
			var again strings.Builder
			for name, values := range got {
				for _, value := range values {
					fmt.Fprintf(&again, "--%s = %s\n", name, value)
				}
			}
			twice, err := s.read(strings.NewReader(again.String()), "again")
			if len(again.String()) < 60<<10 && (err != nil || !maps.EqualFunc(got, twice, slices.Equal)) {
				t.Errorf("%q became %q, %v", got, twice, err)
			}
		}
	})
}
