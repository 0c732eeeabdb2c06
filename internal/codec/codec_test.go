package codec

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCodec_DecodesWhatItEncodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(Names()).Draw(t, "name")
		c, ok := Named(name)
		if !ok || c.String() != name {
			t.Fatalf("%q is %v", name, c)
		}
		line := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "line")
		text := bytes.Repeat(line, MinSize/len(line)+rapid.IntRange(1, 2000).Draw(t, "lines"))
		scratch := make([]byte, 0, rapid.IntRange(0, 2*len(text)).Draw(t, "scratch"))
		payload := c.Encode(scratch, text)
		got, err := c.Decode([]byte("before"), payload, len(text))
		if err != nil || string(got) != "before"+string(text) {
			t.Errorf("%s: %d bytes became %d, %v", name, len(text), len(got), err)
		}
	})
	if _, ok := Named("no such codec"); ok {
		t.Error("one that is in no table is known")
	}
}

func TestCodec_KnowsItsWorstCase(t *testing.T) {
	for _, n := range []int{MinSize, 4095, 1 << 20, MaxSize} {
		text := make([]byte, n)
		_, _ = rand.NewChaCha8([32]byte{}).Read(text)
		for _, name := range Names() {
			c, _ := Named(name)
			if got := len(c.Encode(nil, text)); got > c.MaxEncoded(n) {
				t.Errorf("%s: %d bytes became %d, want at most %d", name, n, got, c.MaxEncoded(n))
			}
		}
	}
}

// The size in a payload is checked against the one in its header, and
// nothing else of it is believed.
func TestCodec_MakesNoMoreThanWasSaid(t *testing.T) {
	text := []byte(strings.Repeat("a line\n", 1000))
	for _, name := range Names() {
		c, _ := Named(name)
		payload := c.Encode(nil, text)
		for _, n := range []int{0, 1, len(text) - 1, len(text) + 1, MaxSize + 1, 1 << 40} {
			if got, err := c.Decode(nil, payload, n); err == nil || cap(got) > 0 {
				t.Errorf("%s: %d bytes decoded to %d, as %d, in memory for %d", name, len(payload), len(got), n,
					cap(got))
			}
		}
		for k := range payload {
			damaged := bytes.Clone(payload)
			damaged[k] ^= 1 << (k % 8)
			if got, err := c.Decode(nil, damaged, len(text)); len(got) > len(text) || err != nil && len(got) > 0 {
				t.Errorf("%s: damage at byte %d made %d bytes, %v", name, k, len(got), err)
			}
		}
	}
	if _, err := Codec(9).Decode(nil, text, len(text)); err == nil {
		t.Error("codec 9 decodes")
	}
}
