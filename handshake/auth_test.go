package handshake

import (
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	var err error
	*h, err = hex.DecodeString(text)
	return err
}

type authVectors struct {
	MACs []struct {
		Name              string
		Key               hexBytes `json:"key_hex"`
		Hello, Chal, Auth string
		Binding           hexBytes `json:"binding_hex"`
		Sender            string   `json:"sender_mac"`
		Receiver          string   `json:"receiver_mac"`
	}
	Receipts []struct {
		Secret  hexBytes `json:"secret_hex"`
		SID     string
		Seq     uint64
		UID, RT string
	}
	Keys []struct {
		Name, File string
		Keys       []struct {
			KID   string
			Key   hexBytes `json:"key_hex"`
			Hosts []string
			SIDs  []string
		}
	}
	BadKeys []struct{ File, Why string } `json:"bad_keys"`
}

func TestTranscript_VectorsHold(t *testing.T) {
	for _, v := range load[authVectors](t, "auth.json").MACs {
		said := Transcript{Hello: []byte(v.Hello), Chal: []byte(v.Chal), Auth: []byte(v.Auth), Binding: v.Binding}
		if got := said.SenderMAC(v.Key); got != v.Sender {
			t.Errorf("%s: the sender's is %s, want %s", v.Name, got, v.Sender)
		}
		if got := said.ReceiverMAC(v.Key); got != v.Receiver {
			t.Errorf("%s: the receiver's is %s, want %s", v.Name, got, v.Receiver)
		}
	}
}

// Invariant 9.
func TestTranscript_EveryPartCounts(t *testing.T) {
	key := []byte("0123456789abcdef")
	said := Transcript{Hello: []byte("hello"), Chal: []byte("chal"), Auth: []byte("auth"), Binding: []byte("binding")}
	sender, receiver := said.SenderMAC(key), said.ReceiverMAC(key)
	if sender == receiver {
		t.Error("both ends have one MAC: each could be sent back")
	}
	for name, other := range map[string]Transcript{
		"hello":         {[]byte("hellO"), said.Chal, said.Auth, said.Binding},
		"chal":          {said.Hello, []byte("chaL"), said.Auth, said.Binding},
		"moved":         {[]byte("helloc"), []byte("hal"), said.Auth, said.Binding},
		"binding":       {said.Hello, said.Chal, said.Auth, []byte("bindinG")},
		"unbound":       {said.Hello, said.Chal, said.Auth, nil},
		"auth":          {said.Hello, said.Chal, []byte("autH"), said.Binding},
		"auth appended": {said.Hello, append([]byte("chal"), "auth"...), nil, said.Binding},
	} {
		if got := other.SenderMAC(key); got == sender && name != "auth" {
			t.Errorf("%s: the sender's MAC is the same", name)
		}
		if got := other.ReceiverMAC(key); got == receiver {
			t.Errorf("%s: the receiver's MAC is the same", name)
		}
	}
	if said.SenderMAC([]byte("0123456789abcdeF")) == sender {
		t.Error("another key has the same MAC")
	}
}

func TestReceiptToken_VectorsHold(t *testing.T) {
	for _, v := range load[authVectors](t, "auth.json").Receipts {
		if got := ReceiptToken(v.Secret, v.SID, v.Seq, v.UID); got != v.RT {
			t.Errorf("%s: got %s, want %s", v.UID, got, v.RT)
		}
		proof := Proof{Seq: v.Seq, UID: v.UID, RT: v.RT}
		if !proof.Verify(v.Secret) {
			t.Errorf("%s: the receipt does not verify", v.UID)
		}
		for name, forged := range map[string]Proof{
			"number":   {v.Seq + 1, v.UID, v.RT},
			"stream":   {v.Seq, "0000000000000000" + v.UID[SIDLen:], v.RT},
			"uid":      {v.Seq, v.UID + "0", v.RT},
			"short":    {v.Seq, v.UID[:UIDLen-1], v.RT},
			"no uid":   {v.Seq, "", v.RT},
			"no token": {v.Seq, v.UID, ""},
			"cut":      {v.Seq, v.UID, v.RT[:31]},
		} {
			if forged.Verify(v.Secret) {
				t.Errorf("%s: a forged receipt verifies: %s", v.UID, name)
			}
		}
		if proof.Verify([]byte("another secret..")) {
			t.Errorf("%s: the receipt verifies under another secret", v.UID)
		}
	}
}

func TestParseKeys_VectorsHold(t *testing.T) {
	vectors := load[authVectors](t, "auth.json")
	for _, v := range vectors.Keys {
		got, err := ParseKeys([]byte(v.File))
		if err != nil || len(got) != len(v.Keys) {
			t.Fatalf("%s: got %d keys, %v", v.Name, len(got), err)
		}
		for i, want := range v.Keys {
			s := Secret{want.KID, want.Key, nil, nil}
			s.Hosts, s.SIDs = append(s.Hosts, want.Hosts...), append(s.SIDs, want.SIDs...)
			if !reflect.DeepEqual(got[i], s) {
				t.Errorf("%s: got %+v, want %+v", v.Name, got[i], s)
			}
		}
		if live := got.Named("web-1"); len(live) != LiveSecrets {
			t.Errorf("%d live keys of web-1, want both", len(live))
		}
	}
	for _, v := range vectors.BadKeys {
		if got, err := ParseKeys([]byte(v.File)); err == nil {
			t.Errorf("%q: got %+v, want an error: %s", v.File, got, v.Why)
		} else if _, secret, _ := strings.Cut(v.File, " "); secret != "" &&
			strings.Contains(err.Error(), strings.Fields(secret)[0]) {
			t.Errorf("the error holds the secret: %v", err)
		}
	}
}

func TestParseTokens_TakesBearerTokens(t *testing.T) {
	got, err := ParseTokens([]byte("ci ghp_0123456789abcdef~.+/=\nci 0123456789abcdef host=build\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s := got.Find([]byte("0123456789abcdef")); s == nil || s.Name != "ci" || s.Allows("web", "") ||
		!s.Allows("BUILD", "") {
		t.Errorf("found %+v, want that of host build", s)
	}
	for _, value := range []string{"0123456789abcdeF", "0123456789abcde", ""} {
		if s := got.Find([]byte(value)); s != nil {
			t.Errorf("%q: found %+v", value, s)
		}
	}
	for _, file := range []string{
		"ci short", "ci 0123456789abcde!", "ci " + strings.Repeat("x", MaxToken+1),
		"ci 0123456789=abcdef",
	} {
		if got, err := ParseTokens([]byte(file)); err == nil {
			t.Errorf("%q: got %+v", file, got)
		}
	}
}

func TestSecret_AllowsOnlyWhatItIsRestrictedTo(t *testing.T) {
	const one, two = "0000000000000001", "0000000000000002"
	for _, tt := range []struct {
		s         Secret
		host, sid string
		want      bool
	}{
		{Secret{}, "any", one, true},
		{Secret{Hosts: []string{"a", "b"}}, "B", one, true},
		{Secret{Hosts: []string{"a", "b"}}, "c", one, false},
		{Secret{Hosts: []string{"a"}}, "", one, false},
		{Secret{SIDs: []string{one}}, "any", one, true},
		{Secret{SIDs: []string{one}}, "any", two, false},
		{Secret{Hosts: []string{"a"}, SIDs: []string{one}}, "a", two, false},
		{Secret{Hosts: []string{"a"}, SIDs: []string{one}}, "b", one, false},
	} {
		if got := tt.s.Allows(tt.host, tt.sid); got != tt.want {
			t.Errorf("%+v: host %q, sid %q: got %v", tt.s, tt.host, tt.sid, got)
		}
	}
}

func TestNewKeyLine_IsALineOfAKeyFile(t *testing.T) {
	line := NewKeyLine("web-1")
	got, err := ParseKeys([]byte(line + "\n"))
	if err != nil || got[0].Name != "web-1" || len(got[0].Value) != 32 {
		t.Errorf("%q: got %+v, %v", line, got, err)
	}
	if NewKeyLine("web-1") == line {
		t.Error("two keys are the same")
	}
}

func TestNewNonce_IsValidAndFresh(t *testing.T) {
	a, b := NewNonce(), NewNonce()
	if !ValidNonce(a) || !ValidNonce(b) || a == b {
		t.Errorf("got %q and %q", a, b)
	}
}

// What parses is within the bounds, and parses again from its plainest form.
func FuzzParseKeys(f *testing.F) {
	vectors := load[authVectors](f, "auth.json")
	for _, v := range vectors.Keys {
		f.Add([]byte(v.File))
	}
	for _, v := range vectors.BadKeys {
		f.Add([]byte(v.File))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		first, err := ParseKeys(file)
		if err != nil {
			return
		}
		var plain strings.Builder
		for _, s := range first {
			if len(s.Value) < MinKey || len(s.Value) > MaxKey || len(first.Named(s.Name)) > LiveSecrets {
				t.Fatalf("%q became %+v", file, s)
			}
			plain.WriteString(s.Name + " " + hex.EncodeToString(s.Value))
			for _, h := range s.Hosts {
				plain.WriteString(" host=" + h)
			}
			for _, sid := range s.SIDs {
				plain.WriteString(" sid=" + sid)
			}
			plain.WriteString("\n")
		}
		second, err := ParseKeys([]byte(plain.String()))
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%q became %+v, %v", plain.String(), second, err)
		}
	})
}
