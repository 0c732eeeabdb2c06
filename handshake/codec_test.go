package handshake

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Invariant 4: the worst a store can say, in the worst bytes.
func TestEncode_KeepsAnyAckWithinMaxControl(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{strings.Repeat("\x00", 5000), strings.Repeat("\x00", MaxRejectedError)},
		{strings.Repeat("<", 5000), strings.Repeat("<", MaxRejectedError)},
		{strings.Repeat("a\xff", 5000), strings.Repeat("a\uFFFD", MaxRejectedError/4)},
		{strings.Repeat("\x80", 5000), "\uFFFD"},
		{"a" + strings.Repeat("😀", 5000), "a" + strings.Repeat("😀", MaxRejectedError/4-1)},
		{"short", "short"},
	} {
		a := &Ack{Seq: MaxSeq + 1, B: MaxSeq, Rej: make([]Rejected, 5000), RejMore: 7}
		for i := range a.Rej {
			a.Rej[i] = Rejected{Seq: MaxSeq, Status: 400, Error: tc.text}
		}
		msg := Encode(a)
		if len(msg) > MaxControl || !utf8.Valid(msg) {
			t.Fatalf("%.9q: %d bytes, UTF-8 %v", tc.text, len(msg), utf8.Valid(msg))
		}
		f, err := Decode(msg)
		if err != nil {
			t.Fatalf("%.9q: %v", tc.text, err)
		}
		got := f.(*Ack)
		if len(got.Rej) != MaxRejected || got.RejMore != 5000-MaxRejected+7 {
			t.Errorf("%.9q: got %d listed, %d counted", tc.text, len(got.Rej), got.RejMore)
		}
		if got.Rej[0].Error != tc.want {
			t.Errorf("got %q, want %q", got.Rej[0].Error, tc.want)
		}
		if len(a.Rej) != 5000 || a.Rej[0].Error != tc.text || a.RejMore != 7 {
			t.Errorf("%.9q: Encode changed the caller's ack", tc.text)
		}
	}
}

func TestDecode_TakesALongListOfRejectedLines(t *testing.T) {
	item := `{"seq":1,"status":400,"error":"` + strings.Repeat("e", 300) + `"},`
	msg := `{"t":"ack","seq":500,"rej":[` + strings.TrimSuffix(strings.Repeat(item, 300), ",") + `]}`
	f, err := Decode([]byte(msg))
	if err != nil {
		t.Fatal(err)
	}
	if a := f.(*Ack); len(a.Rej) != MaxRejected || a.RejMore != 200 || len(a.Rej[0].Error) != MaxRejectedError {
		t.Errorf("got %d listed, %d counted, texts of %d", len(a.Rej), a.RejMore, len(a.Rej[0].Error))
	}
}

func TestEncode_RepairsTextThatIsNotUTF8(t *testing.T) {
	msg := Encode(&Hello{V: Version, SID: NewSID(), Host: "caf\xe9 <&>", Acked: 1, Head: 1})
	f, err := Decode(msg)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := f.(*Hello).Host, "caf\uFFFD <&>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEncode_NeverWritesNull(t *testing.T) {
	for _, f := range []Frame{
		&Hello{}, &Chal{}, &Auth{}, &Welcome{}, &Gap{}, &Ack{}, &Busy{}, &Nak{}, &Bye{}, &Err{},
	} {
		if msg := Encode(f); bytes.Contains(msg, []byte("null")) {
			t.Errorf("%s", msg)
		}
	}
}

func TestDecode_HoldsItsSizeLimits(t *testing.T) {
	pad := func(msg string, size int) []byte {
		return []byte(msg + strings.Repeat(" ", size-len(msg)))
	}
	hello := string(Encode(&Hello{V: Version, SID: NewSID(), Acked: 1, Head: 1}))
	ack := string(Encode(&Ack{Seq: 1}))
	for _, tc := range []struct {
		name string
		msg  []byte
		ok   bool
	}{
		{"hello at its limit", pad(hello, MaxHello), true},
		{"hello over it", pad(hello, MaxHello+1), false},
		{"ack at its limit", pad(ack, MaxControl), true},
		{"ack over it", pad(ack, MaxControl+1), false},
	} {
		if _, err := Decode(tc.msg); (err == nil) != tc.ok || (err != nil && !errors.Is(err, ErrFrame)) {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
}

func TestDecodeData_HoldsItsHeaderLimit(t *testing.T) {
	msg := AppendData(nil, Data{B: 1, Seq: 1, N: 1, Enc: EncRaw, Raw: 1, C: CRC([]byte("\n"))}, []byte("\n"))
	head, payload, _ := bytes.Cut(msg, []byte("\n"))
	for size, ok := range map[int]bool{MaxHeader: true, MaxHeader + 1: false} {
		msg := append(bytes.Clone(head), bytes.Repeat([]byte(" "), size-len(head))...)
		msg = append(append(msg, '\n'), payload...)
		if _, _, err := DecodeData(msg); (err == nil) != ok {
			t.Errorf("a header of %d bytes: got %v", size, err)
		}
	}
}

// Deep nesting must cost neither the stack nor time squared.
func TestDecode_RefusesDeepNesting(t *testing.T) {
	for _, open := range []string{"[", `{"a":`} {
		msg := `{"t":"ack","seq":1,"x":` + strings.Repeat(open, (MaxControl-100)/len(open))
		if _, err := Decode([]byte(msg)); !errors.Is(err, ErrFrame) {
			t.Errorf("%s…: got %v", open, err)
		}
	}
}

func TestData_TimeIsUTC(t *testing.T) {
	got := Data{At: 1767323045678}.Time()
	if want := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
