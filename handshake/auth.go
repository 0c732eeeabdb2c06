package handshake

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
)

// MechHMAC is the one mechanism of hello.mech and chal.mech.
const MechHMAC = "hmac-sha256"

// Channel bindings of chal.cb.
const (
	CBExporter = "tls-exporter" // RFC 9266
	CBNone     = "none"         // only where the receiver allows it: behind a proxy that terminates TLS
)

// TLSBinding is the channel binding that both ends of one TLS connection derive
// from it, 32 bytes (RFC 9266, 4.2). TLS 1.2 has it only with the extended
// master secret.
func TLSBinding(state tls.ConnectionState) ([]byte, error) {
	return state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
}

// MinNonce and MaxNonce bound the characters of a nonce.
const (
	MinNonce = 16
	MaxNonce = 64
)

// NewNonce draws a nonce of 130 random bits.
func NewNonce() string { return rand.Text() }

// ValidNonce reports whether s may be one.
func ValidNonce(s string) bool { return MinNonce <= len(s) && len(s) <= MaxNonce }

// Transcript is what the ends have said to each other in a handshake, byte for
// byte as it went over the wire, and the channel it went over. Each end proves
// with a MAC of it that it holds the key, that it means this handshake and no
// other, and that nobody stands between the two ends of the TLS connection.
type Transcript struct {
	Hello, Chal, Auth []byte
	Binding           []byte // see TLSBinding; none with CBNone
}

// SenderMAC is auth.mac: 64 hexadecimal digits. Auth need not be known yet.
func (t *Transcript) SenderMAC(key []byte) string {
	return t.mac(key, "wsrelay1 c", t.Hello, t.Chal)
}

// ReceiverMAC is welcome.mac.
func (t *Transcript) ReceiverMAC(key []byte) string {
	return t.mac(key, "wsrelay1 s", t.Hello, t.Chal, t.Auth)
}

// mac is HMAC-SHA256(key, label | SHA-256(length, message, ...) | binding); a
// length is 4 bytes, the most significant first.
func (t *Transcript) mac(key []byte, label string, messages ...[]byte) string {
	said := sha256.New()
	for _, m := range messages {
		said.Write(binary.BigEndian.AppendUint32(nil, uint32(len(m)))) // MaxHello and MaxControl are far below
		said.Write(m)
	}
	return sum(key, []byte(label), said.Sum(nil), t.Binding)
}

// ReceiptToken is ack.rt: 32 hexadecimal digits. Seq and uid are those of the
// ack, ack.seq and ack.uid.last. All receivers of one store share the secret, so
// that each knows a receipt of the others.
func ReceiptToken(secret []byte, sid string, seq uint64, uid string) string {
	number := binary.BigEndian.AppendUint64(nil, seq)
	return sum(secret, []byte("rt1"), []byte(sid), number, []byte(uid))[:32]
}

// Verify reports whether p is a receipt that a holder of secret has given to a
// stream; the stream's sid is the beginning of the uid.
func (p *Proof) Verify(secret []byte) bool {
	if len(p.UID) < UIDLen {
		return false
	}
	return SameMAC(p.RT, ReceiptToken(secret, p.UID[:SIDLen], p.Seq, p.UID))
}

// SameMAC compares in a time that does not depend on where the two differ.
func SameMAC(got, want string) bool {
	return hmac.Equal([]byte(got), []byte(want))
}

func sum(key []byte, parts ...[]byte) string {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}
