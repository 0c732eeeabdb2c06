package elastic

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestIsDeep_CountsLevelsOutsideOfStrings(t *testing.T) {
	for _, tt := range []struct {
		line string
		want int // levels
	}{
		{``, 0},
		{`no JSON`, 0},
		{`{"a":[{},[{}]],"b":{}}`, 4},
		{`{"a":"[[[[[[[["}`, 1},
		{`{"a\"":"\\","[":"\"[[[["}`, 1},
		{`[[[`, 3},
		{strings.Repeat("[", 16<<20), 16 << 20},
		{strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500), 500},
	} {
		if isDeep([]byte(tt.line), tt.want) || tt.want > 0 && !isDeep([]byte(tt.line), tt.want-1) {
			t.Errorf("%.30q…: want %d levels", tt.line, tt.want)
		}
	}
}

// What is not deep, a reader that calls itself can take.
func FuzzIsDeep(f *testing.F) {
	f.Add(`{"a":[1,"[\"]",{}]}`)
	f.Add(`]]][[[`)
	f.Fuzz(func(t *testing.T, line string) {
		deepest, depth := 0, 0
		for d := json.NewDecoder(strings.NewReader(line)); ; {
			token, err := d.Token()
			if err != nil {
				break
			}
			switch token {
			case json.Delim('{'), json.Delim('['):
				depth++
				deepest = max(deepest, depth)
			case json.Delim('}'), json.Delim(']'):
				depth--
			}
			if depth == 0 {
				break // what follows is another value
			}
		}
		if deepest > 0 && !isDeep([]byte(line), deepest-1) {
			t.Errorf("%q has %d levels", line, deepest)
		}
	})
}
