package generic

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/tidwall/gjson"
)

// maxAnswer is the longest answer, in bytes: a server may send back the line
// that it is for.
const maxAnswer = 64 << 20

// answer is what a message of the server says about our lines.
type answer struct {
	uids    []string // of the lines that it is a receipt for
	oldest  bool     // it is one for the oldest line without
	refused bool     // the server did not take a line
}

// Why a message is no answer.
var (
	errNotJSON = errors.New("it is not JSON, or is longer than 64 MiB")
	errNoValue = errors.New("it has nothing where --plain-receipt-if looks")
	errNoUID   = errors.New("it has no UID where --plain-receipt looks")
	errUnknown = errors.New("it is for no line that is under way")
)

// answer reads a message of the server; an error is why it is not an answer.
func (o *Options) answer(msg []byte) (a answer, err error) {
	if o.Receipt == InOrder && o.If == "" {
		return answer{oldest: true}, nil
	}
	if !json.Valid(msg) { // gjson would read on somewhere
		return answer{}, errNotJSON
	}
	if path, want, ok := strings.Cut(o.If, "="); ok {
		switch got := gjson.GetBytes(msg, path); {
		case !got.Exists():
			return answer{}, errNoValue
		case got.String() != want:
			return answer{refused: true}, nil
		}
	}
	if o.Receipt == InOrder {
		return answer{oldest: true}, nil
	}
	gjson.GetBytes(msg, o.Receipt).ForEach(func(_, uid gjson.Result) bool {
		if uid.Type == gjson.String {
			a.uids = append(a.uids, uid.Str)
		}
		return true
	})
	if a.uids == nil {
		return answer{}, errNoUID
	}
	return a, nil
}
