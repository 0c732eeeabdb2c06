package handshake

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// message is how the vectors write a message: as text where it is UTF-8.
type message struct {
	Name   string
	Text   string `json:"message"`
	Base64 []byte `json:"message_base64"`
	Why    string

	Lenient bool // a reader that takes what its JSON library takes may accept it
}

func (m message) bytes() []byte {
	if m.Base64 != nil {
		return m.Base64
	}
	return []byte(m.Text)
}

type frameVectors struct {
	Valid []struct {
		message
		Frame json.RawMessage
	}
	Invalid []message
}

type dataVectors struct {
	SID     string
	Batches []struct {
		Name     string
		Lines    [][]byte `json:"lines_base64"`
		CRCs     []string `json:"line_crcs"`
		UIDs     []string
		Messages []struct {
			Header Data
			message
		}
	}
	Invalid []message
	Refused []struct {
		message
		Code string
	}
}

type idVectors struct {
	UIDs []struct {
		SID string
		Seq uint64
		UID string
	}
	BadUIDs []struct{ UID, Why string } `json:"bad_uids"`
	GapIDs  []struct {
		SID    string
		Seq, N uint64
		ID     string
	} `json:"gap_ids"`
	SIDs    []struct{ Hex, SID string }
	BadSIDs []string `json:"bad_sids"`
	CRCs    []struct {
		Bytes     []byte `json:"bytes_base64"`
		CRC, Note string
	}
}

// load reads a file of testdata.
func load[T any](t testing.TB, name string) (v T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// Invariants 1, 2 and 3.
func TestDecode_ReadsEveryValidVector(t *testing.T) {
	for _, v := range load[frameVectors](t, "frames.json").Valid {
		t.Run(v.Name, func(t *testing.T) {
			f, err := Decode(v.bytes())
			if err != nil {
				t.Fatal(err)
			}
			got := Encode(f)
			if !sameJSON(t, got, v.Frame) {
				t.Errorf("got  %s\nwant %s", got, v.Frame)
			}
			again, err := Decode(v.Frame)
			if err != nil || !bytes.Equal(Encode(again), got) {
				t.Errorf("the canonical frame decodes to %+v, %v", again, err)
			}
		})
	}
}

func TestDecode_CoversEveryTypeAndMember(t *testing.T) {
	seen := map[string]map[string]bool{}
	for _, v := range load[frameVectors](t, "frames.json").Valid {
		var members map[string]any
		if err := json.Unmarshal(v.Frame, &members); err != nil {
			t.Fatal(err)
		}
		kind := members["t"].(string)
		if seen[kind] == nil {
			seen[kind] = map[string]bool{}
		}
		for name := range members {
			seen[kind][name] = true
		}
	}
	for _, f := range []Frame{
		&Hello{}, &Chal{}, &Auth{}, &Welcome{}, &Gap{}, &Ack{}, &Busy{}, &Nak{}, &Bye{}, &Err{},
	} {
		if got := blank(name(f)); reflect.TypeOf(got) != reflect.TypeOf(f) {
			t.Errorf("blank(name(%T)) is a %T", f, got)
		}
		kind := reflect.TypeOf(f).Elem()
		for field := range kind.Fields() {
			member, _, _ := bytes.Cut([]byte(field.Tag.Get("json")), []byte(","))
			if !seen[name(f)][string(member)] {
				t.Errorf("no vector has %s.%s", name(f), member)
			}
		}
	}
}

// Invariants 1, 5, 6 and 7.
func TestDecode_RefusesEveryInvalidVector(t *testing.T) {
	for _, v := range load[frameVectors](t, "frames.json").Invalid {
		if f, err := Decode(v.bytes()); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %+v, %v; want ErrFrame: %s", v.Name, f, err, v.Why)
		}
	}
}

// What is lenient is at least one JSON object, and not all of it is.
func TestVectors_LenientOnesAreJSON(t *testing.T) {
	lenient, strict := 0, 0
	all := slices.Concat(load[frameVectors](t, "frames.json").Invalid, load[dataVectors](t, "data.json").Invalid)
	for _, v := range all {
		head, _, _ := bytes.Cut(v.bytes(), []byte("\n"))
		var object map[string]any
		switch err := json.Unmarshal(head, &object); {
		case !v.Lenient:
			strict++
		case err != nil:
			t.Errorf("%s: marked lenient, but %v", v.Name, err)
		default:
			lenient++
		}
	}
	if lenient == 0 || strict == 0 {
		t.Errorf("%d lenient, %d strict", lenient, strict)
	}
}

// Invariant 3.
func TestData_VectorsHoldInBothDirections(t *testing.T) {
	vectors := load[dataVectors](t, "data.json")
	for _, batch := range vectors.Batches {
		t.Run(batch.Name, func(t *testing.T) {
			for _, m := range batch.Messages {
				d, payload, err := DecodeData(m.bytes())
				if err != nil {
					t.Fatalf("%s: %v", m.Header.Enc, err)
				}
				if d != m.Header {
					t.Errorf("got %+v, want %+v", d, m.Header)
				}
				lines, code := open(d, payload)
				if code != "" || !reflect.DeepEqual(lines, batch.Lines) {
					t.Errorf("%s: got %q, nak %q; want %q", d.Enc, lines, code, batch.Lines)
				}
				if got := AppendData(nil, m.Header, payload); !bytes.Equal(got, m.bytes()) {
					t.Errorf("got  %q\nwant %q", got, m.bytes())
				}
			}
			for i, line := range batch.Lines {
				if got := CRC(line); got != batch.CRCs[i] {
					t.Errorf("CRC(%q): got %s, want %s", line, got, batch.CRCs[i])
				}
				seq := batch.Messages[0].Header.Seq + uint64(i)
				if got := UID(vectors.SID, seq); got != batch.UIDs[i] {
					t.Errorf("UID of %d: got %s, want %s", seq, got, batch.UIDs[i])
				}
			}
		})
	}
}

// Invariants 1, 5 and 7.
func TestDecodeData_RefusesEveryInvalidVector(t *testing.T) {
	for _, v := range load[dataVectors](t, "data.json").Invalid {
		if d, _, err := DecodeData(v.bytes()); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %+v, %v; want ErrFrame: %s", v.Name, d, err, v.Why)
		}
	}
}

func TestDecodeData_LeavesABadPayloadToTheReceiver(t *testing.T) {
	for _, v := range load[dataVectors](t, "data.json").Refused {
		d, payload, err := DecodeData(v.bytes())
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if _, code := open(d, payload); code != v.Code {
			t.Errorf("%s: got nak %q, want %q: %s", v.Name, code, v.Code, v.Why)
		}
	}
}

// Invariant 8.
func TestUID_VectorsHoldInBothDirections(t *testing.T) {
	vectors := load[idVectors](t, "ids.json")
	last := map[string]string{}
	for _, v := range vectors.UIDs {
		if got := UID(v.SID, v.Seq); got != v.UID {
			t.Errorf("UID(%s, %d): got %s, want %s", v.SID, v.Seq, got, v.UID)
		}
		if sid, seq, err := ParseUID(v.UID); sid != v.SID || seq != v.Seq || err != nil {
			t.Errorf("ParseUID(%s): got %s, %d, %v", v.UID, sid, seq, err)
		}
		if v.UID <= last[v.SID] {
			t.Errorf("%s does not sort after %s", v.UID, last[v.SID])
		}
		last[v.SID] = v.UID
	}
	for _, v := range vectors.BadUIDs {
		if sid, seq, err := ParseUID(v.UID); err == nil {
			t.Errorf("ParseUID(%q): got %s, %d; want an error: %s", v.UID, sid, seq, v.Why)
		}
	}
	for _, v := range vectors.GapIDs {
		if got := GapID(v.SID, v.Seq, v.N); got != v.ID {
			t.Errorf("GapID(%s, %d, %d): got %s, want %s", v.SID, v.Seq, v.N, got, v.ID)
		}
	}
}

func TestSID_VectorsHold(t *testing.T) {
	vectors := load[idVectors](t, "ids.json")
	for _, v := range vectors.SIDs {
		raw, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		if got := base32hex.EncodeToString(raw); got != v.SID || !ValidSID(v.SID) {
			t.Errorf("%s: got %s, want %s, valid", v.Hex, got, v.SID)
		}
	}
	for _, sid := range vectors.BadSIDs {
		if ValidSID(sid) {
			t.Errorf("ValidSID(%q): got true", sid)
		}
	}
	a, b := NewSID(), NewSID()
	if !ValidSID(a) || !ValidSID(b) || a == b {
		t.Errorf("NewSID: got %q and %q", a, b)
	}
}

func TestCRC_VectorsHold(t *testing.T) {
	for _, v := range load[idVectors](t, "ids.json").CRCs {
		if got := CRC(v.Bytes); got != v.CRC {
			t.Errorf("%s: CRC(%q): got %s, want %s", v.Note, v.Bytes, got, v.CRC)
		}
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	for _, p := range []struct {
		in  []byte
		out *any
	}{{a, &x}, {b, &y}} {
		dec := json.NewDecoder(bytes.NewReader(p.in))
		dec.UseNumber() // 2^53-1 and 2^53 must not become one
		if err := dec.Decode(p.out); err != nil {
			t.Fatalf("%s: %v", p.in, err)
		}
	}
	return reflect.DeepEqual(x, y)
}
