package handshake

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Bounds of the secrets in a file.
const (
	MinKey      = 16 // bytes of a key
	MaxKey      = 64
	MinToken    = 16 // characters of a token
	MaxToken    = 1024
	LiveSecrets = 2 // of one name at a time: the new one and the old one
)

// Secret is a line of a file of keys or tokens: a name, the secret, and what
// its holder may do.
//
//	# name  secret                                       restrictions
//	web-1   0M0mpYWnPyz0WPbF3Rz0p7Ikh6hYJ2PtqYuEbmFhz3I  host=web-1
//	fleet   000102030405060708090a0b0c0d0e0f             host=web-2 host=web-3
//
// A name consists of letters, digits, '_', '.' and '-', at most 64. It may stand
// on two lines, with two secrets: both are good, so that one can be replaced
// without a moment in which neither is. A key is 16 to 64 bytes, in base64 of
// either alphabet with or without padding; if it consists of hexadecimal digits
// only, it is read as such. A token is 16 to 1024 characters of RFC 6750, 2.1.
//
// host=NAME and sid=SID, each as often as necessary, restrict the senders: one
// with another host's name, or another stream, is refused.
type Secret struct {
	Name  string
	Value []byte
	Hosts []string // empty: any
	SIDs  []string // empty: any
}

// Allows reports whether the holder may send the stream sid of host.
func (s *Secret) Allows(host, sid string) bool {
	return (len(s.Hosts) == 0 || slices.ContainsFunc(s.Hosts,
		func(h string) bool { return strings.EqualFold(h, host) })) &&
		(len(s.SIDs) == 0 || slices.Contains(s.SIDs, sid))
}

// Secrets is a file of keys or of tokens.
type Secrets []Secret

// Named gives the live secrets of a name, at most LiveSecrets.
func (s Secrets) Named(name string) Secrets {
	var live Secrets
	for _, x := range s {
		if x.Name == name {
			live = append(live, x)
		}
	}
	return live
}

// Find gives the secret of this value, nil if there is none. The time that it
// takes does not depend on the values.
func (s Secrets) Find(value []byte) *Secret {
	var found *Secret
	want := sha256.Sum256(value)
	for i := range s {
		if got := sha256.Sum256(s[i].Value); subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			found = &s[i]
		}
	}
	return found
}

// ParseKeys reads a file of keys. Errors name the line and hold no secret.
func ParseKeys(file []byte) (Secrets, error) { return parseSecrets(file, parseKey) }

// ParseTokens reads a file of tokens. Errors name the line and hold no secret.
func ParseTokens(file []byte) (Secrets, error) { return parseSecrets(file, parseToken) }

// ParseToken reads a file that holds one token and nothing else. Errors do not
// hold it.
func ParseToken(file []byte) (string, error) {
	token, err := parseToken(strings.TrimSpace(string(file)))
	return string(token), err
}

// NewKeyLine is a line of a key file with a fresh key of 256 bits.
func NewKeyLine(name string) string {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails: crypto/rand ends the process instead
	return name + " " + base64.RawURLEncoding.EncodeToString(key[:])
}

var secretName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

func parseSecrets(file []byte, parse func(string) ([]byte, error)) (Secrets, error) {
	var all Secrets
	lines := bufio.NewScanner(bytes.NewReader(file))
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		s, err := parseSecret(words, parse)
		if err == nil && len(all.Named(s.Name)) == LiveSecrets {
			err = fmt.Errorf("%q stands here for the third time: two at a time are for replacing one", s.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, s)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("holds no line of the form 'name secret'")
	}
	return all, nil
}

func parseSecret(words []string, parse func(string) ([]byte, error)) (s Secret, err error) {
	if !secretName.MatchString(words[0]) {
		return s, errors.New("the name is not of letters, digits, '_', '.' and '-', at most 64")
	}
	if len(words) < 2 {
		return s, errors.New("want 'name secret'")
	}
	s.Name = words[0]
	if s.Value, err = parse(words[1]); err != nil {
		return s, err
	}
	for _, w := range words[2:] {
		what, value, _ := strings.Cut(w, "=")
		switch {
		case what == "host" && value != "":
			s.Hosts = append(s.Hosts, value)
		case what == "sid" && ValidSID(value):
			s.SIDs = append(s.SIDs, value)
		default:
			return s, errors.New("after the secret, want host=NAME or sid=SID")
		}
	}
	return s, nil
}

func parseKey(text string) ([]byte, error) {
	decode := base64.RawStdEncoding.DecodeString
	if strings.Trim(text, "0123456789abcdefABCDEF") == "" {
		decode = hex.DecodeString
	}
	key, err := decode(strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "=")))
	if err != nil {
		return nil, errors.New("the key is neither base64 nor hexadecimal")
	}
	if len(key) < MinKey || len(key) > MaxKey {
		return nil, fmt.Errorf("the key has %d bytes, want %d to %d", len(key), MinKey, MaxKey)
	}
	return key, nil
}

// tokenForm is b64token of RFC 6750, 2.1.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

func parseToken(text string) ([]byte, error) {
	if len(text) < MinToken || len(text) > MaxToken || !tokenForm.MatchString(text) {
		return nil, fmt.Errorf("the token is not %d to %d letters, digits and ._~+/-", MinToken, MaxToken)
	}
	return []byte(text), nil
}
