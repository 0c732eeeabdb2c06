package handshake

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// SIDLen and UIDLen are the lengths, in characters, of a stream's identity
// and of a document's id.
const (
	SIDLen = 16
	UIDLen = SIDLen + 13
)

const digits = "0123456789abcdefghijklmnopqrstuv" // of base32hex, RFC 4648, in lower case

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	base32hex  = base32.NewEncoding(digits).WithPadding(base32.NoPadding)
)

// NewSID draws a stream identity: 80 random bits as 16 lower-case base32hex
// characters.
func NewSID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return base32hex.EncodeToString(b[:])
}

// ValidSID reports whether s has the form that NewSID gives.
func ValidSID(s string) bool {
	return len(s) == SIDLen && isBase32hex(s)
}

// UID is the id of the document that holds the line seq of stream sid: the
// sid, then seq in 13 base32hex digits. It has a fixed width, so the ids of a
// stream sort in the order of its lines.
func UID(sid string, seq uint64) string {
	var b [UIDLen]byte
	copy(b[:SIDLen], sid)
	for i := UIDLen - 1; i >= SIDLen; i-- {
		b[i] = digits[seq&31]
		seq >>= 5
	}
	return string(b[:])
}

// ParseUID takes a UID apart again.
func ParseUID(uid string) (sid string, seq uint64, err error) {
	if len(uid) != UIDLen || !isBase32hex(uid) {
		return "", 0, fmt.Errorf("%q is not a UID: want %d characters of 0-9 and a-v", uid, UIDLen)
	}
	seq, err = strconv.ParseUint(uid[SIDLen:], 32, 64)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not a UID: %w", uid, err)
	}
	return uid[:SIDLen], seq, nil
}

// GapID is the id of the document that stands for the n records from seq on
// that will never come.
func GapID(sid string, seq, n uint64) string {
	return UID(sid, seq) + "g" + strconv.FormatUint(n, 10)
}

// CRC is the CRC-32C (Castagnoli, RFC 3720) of b as the wire and the stores
// write it: 8 lower-case hexadecimal digits. Of a line it is taken without the
// final newline; of a data message over the payload as sent.
func CRC(b []byte) string {
	return FormatCRC(crc32.Checksum(b, castagnoli))
}

// FormatCRC writes a CRC-32C that is already at hand in the form of CRC.
func FormatCRC(sum uint32) string {
	var text [8]byte
	return string(hex.AppendEncode(text[:0], binary.BigEndian.AppendUint32(nil, sum)))
}

func isBase32hex(s string) bool { return strings.Trim(s, digits) == "" }
