package retry

import (
	"testing"
	"time"
)

func TestConnect_DrawsFromZeroToABoundThatDoubles(t *testing.T) {
	const least = time.Second
	short := 0
	for range 200 {
		b := Connect(least)
		for bound := least; bound < 100*least; bound *= 2 {
			switch d := b.NextBackOff(); {
			case d < 0 || d > min(bound, 30*least):
				t.Fatalf("%v, want at most %v", d, min(bound, 30*least))
			case d < bound/4:
				short++
			}
		}
	}
	if short == 0 {
		t.Error("no pause was short: all come back together")
	}
}

func TestStore_RetriesForEver(t *testing.T) {
	const most = time.Second
	b := Store(most)
	for range 1000 {
		if d := b.NextBackOff(); d <= 0 || d > 3*most/2 {
			t.Fatalf("%v, want up to about %v", d, most)
		}
	}
}
