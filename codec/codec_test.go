package codec

import (
	"bytes"
	"strings"
	"testing"
)

func TestCodec_DecodesWhatItEncodes(t *testing.T) {
	for _, name := range Names() {
		c, ok := Named(name)
		if !ok || c.String() != name {
			t.Fatalf("%q is %v", name, c)
		}
		var scratch []byte
		for _, text := range []string{strings.Repeat("x", Least), strings.Repeat("a line\n", 100_000), strings.Repeat("x", 1<<16)} {
			payload := c.Encode(scratch, []byte(text))
			got, err := c.Decode([]byte("before"), payload, len(text))
			if err != nil || string(got) != "before"+text {
				t.Errorf("%s: %d bytes became %d, %v", name, len(text), len(got), err)
			}
			scratch = bytes.Clone(payload)
		}
	}
	if _, ok := Named("lz4"); ok {
		t.Error("lz4 is known")
	}
}

// What a payload says of its size is held against what its header says, and
// nothing else of it is believed.
func TestCodec_MakesNoMoreThanWasSaid(t *testing.T) {
	text := []byte(strings.Repeat("a line\n", 1000))
	for _, name := range Names() {
		c, _ := Named(name)
		payload := c.Encode(nil, text)
		for _, n := range []int{0, 1, len(text) - 1, len(text) + 1, Longest + 1, 1 << 40} {
			if got, err := c.Decode(nil, payload, n); err == nil {
				t.Errorf("%s: %d bytes decoded to %d, as %d", name, len(payload), len(got), n)
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
