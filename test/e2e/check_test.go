package e2e

import (
	"encoding/json"
	"iter"
	"testing"
)

// documents gives the lines with these numbers as documents.
func documents(t *testing.T, lines ...int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, line := range lines {
			kind := Kind(line % int(kinds))
			d, err := json.Marshal(map[string]any{
				"program": programs[kind],
				"message": kind.Message(line / int(kinds)),
			})
			if err != nil {
				t.Fatal(err)
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func TestCheck_NamesWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []int
		want  Verdict
	}{
		{"kinds may overtake each other", []int{2, 0, 1, 4, 3, 5}, Verdict{Received: [kinds]int{2, 2, 2}}},
		{"lost", []int{0, 1, 2, 3, 5}, Verdict{Received: [kinds]int{2, 1, 2}, Lost: 1}},
		{"doubled", []int{0, 1, 2, 3, 4, 5, 4}, Verdict{Received: [kinds]int{2, 3, 2}, Doubled: 1}},
		{"out of order", []int{3, 0, 1, 2, 4, 5}, Verdict{Received: [kinds]int{2, 2, 2}, Unordered: 1}},
		{"never sent", []int{0, 1, 2, 3, 4, 5, 6}, Verdict{Received: [kinds]int{3, 2, 2}, Altered: 1}},
	} {
		tt.want.Sent = 6
		got, err := Check(documents(t, tt.lines...), 6)
		if got != tt.want || err != nil {
			t.Errorf("%s: got %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
		if got.OK() != (tt.name == "kinds may overtake each other") {
			t.Errorf("%s: OK() = %v", tt.name, got.OK())
		}
	}
}

func TestCheck_SeesAChangedByte(t *testing.T) {
	changed := func(yield func([]byte, error) bool) {
		for d := range documents(t, 0, 1, 2) {
			if string(d[:8]) == `{"messag` && d[len(d)-3] == 'g' { // "program":"billing"
				d[20]++
			}
			if !yield(d, nil) {
				return
			}
		}
	}
	got, err := Check(changed, 3)
	if err != nil || got.Altered != 1 || got.Lost != 1 {
		t.Errorf("got %+v, %v; want one line altered and one lost", got, err)
	}
}
