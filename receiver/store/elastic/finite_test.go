package elastic

import (
	"encoding/json"
	"testing"
)

func TestQuoteNonFinite_ChangesNothingElse(t *testing.T) {
	for line, want := range map[string]string{
		`{"a":inf,"b":-inf , "c":[nan,-nan],"d":{"e":inf}}`: `{"a":"inf","b":"-inf" , "c":["nan","-nan"],"d":{"e":"inf"}}`,
		`{"a":"inf","b":"\"nan,","inf":null,"n":-1}`:        `{"a":"inf","b":"\"nan,","inf":null,"n":-1}`,
		`{"a":12345678901234567890123,"b":inf}`:             `{"a":12345678901234567890123,"b":"inf"}`,
		`{"a":infinite,"b":nano,"c":1}`:                     `{"a":infinite,"b":nano,"c":1}`,
		`inf`:                                               `inf`,
		`{"a":in`:                                           `{"a":in`,
		``:                                                  ``,
	} {
		got, changed := quoteNonFinite([]byte(line))
		if string(got) != want || changed != (line != want) {
			t.Errorf("%s: got %s, %v, want %s", line, got, changed, want)
		}
		if changed && !json.Valid(got) {
			t.Errorf("%s is not JSON", got)
		}
	}
}
