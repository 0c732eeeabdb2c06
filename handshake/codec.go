package handshake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// ErrFrame is wrapped by every error of Decode and DecodeData: the message is
// not a frame of this protocol. The answer to it is CloseBadFrame.
var ErrFrame = errors.New("bad frame")

// Encode is the TEXT message of a frame. Strings that are not UTF-8 are
// repaired with U+FFFD; Ack.Rej is cut to its limits.
func Encode(f Frame) []byte {
	if a, ok := f.(*Ack); ok {
		f = a.clipped()
	}
	body, err := json.Marshal(f)
	if err != nil {
		panic(err) // plain structs of strings and numbers: cannot happen
	}
	return append([]byte(`{"t":"`+name(f)+`",`), body[1:]...)
}

// Decode reads a TEXT message. Errors wrap ErrFrame.
func Decode(msg []byte) (Frame, error) {
	if len(msg) > MaxControl {
		return nil, fmt.Errorf("%w: a control message of %d bytes, limit %d", ErrFrame, len(msg), MaxControl)
	}
	v, err := parse(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	t := v.Get("t").Str
	f := blank(t)
	if f == nil {
		return nil, fmt.Errorf("%w: unknown type %.20q", ErrFrame, t)
	}
	if t == "hello" && len(msg) > MaxHello {
		return nil, fmt.Errorf("%w: a hello of %d bytes, limit %d", ErrFrame, len(msg), MaxHello)
	}
	if err = json.Unmarshal(msg, f); err == nil {
		err = f.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFrame, t, err)
	}
	if a, ok := f.(*Ack); ok {
		f = a.clipped()
	}
	return f, nil
}

// AppendData appends the data message to dst.
func AppendData(dst []byte, d Data, payload []byte) []byte {
	head, err := json.Marshal(d)
	if err != nil {
		panic(err) // as in Encode
	}
	dst = slices.Grow(dst, len(head)+1+len(payload))
	dst = append(dst, head...)
	dst = append(dst, '\n')
	return append(dst, payload...)
}

// DecodeData reads a BINARY message; the payload is part of msg. It checks the
// header's form, not the payload: that is the receiver's (a bad checksum is
// answered with a nak, a bad header with CloseBadFrame). Errors wrap ErrFrame.
func DecodeData(msg []byte) (d Data, payload []byte, err error) {
	end := bytes.IndexByte(msg[:min(len(msg), MaxHeader+1)], '\n')
	if end < 0 {
		return Data{}, nil, fmt.Errorf("%w: data: no header line within %d bytes", ErrFrame, MaxHeader)
	}
	if _, err = parse(msg[:end]); err == nil {
		err = json.Unmarshal(msg[:end], &d)
	}
	if err == nil {
		err = d.check()
	}
	if err != nil {
		return Data{}, nil, fmt.Errorf("%w: data: %w", ErrFrame, err)
	}
	return d, msg[end+1:], nil
}

// Bounds of the JSON in a frame, so that reading it costs little.
const (
	maxMembers = 64 // of one object
	maxDepth   = 8
)

// parse reads msg as JSON and refuses what JSON readers disagree about. Names in
// another case, escaped, or there twice are read in one way by encoding/json,
// in another by gjson, and in others by other languages: an ack with two seqs
// must not mean two things.
func parse(msg []byte) (gjson.Result, error) {
	if !utf8.Valid(msg) {
		return gjson.Result{}, errors.New("not UTF-8")
	}
	if !json.Valid(msg) {
		return gjson.Result{}, errors.New("not JSON")
	}
	v := gjson.ParseBytes(msg)
	return v, checkNames(v, 1)
}

func checkNames(v gjson.Result, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	var space [16]string
	seen, isObject := space[:0], v.IsObject()
	var err error
	v.ForEach(func(key, value gjson.Result) bool {
		switch {
		case !isObject:
		case !plainName(key.Raw[1 : len(key.Raw)-1]):
			err = fmt.Errorf("member name %.40s: want a-z, 0-9 and _", key.Raw)
		case slices.Contains(seen, key.Str):
			err = fmt.Errorf("member name %.40s twice", key.Raw)
		case len(seen) == maxMembers:
			err = fmt.Errorf("an object of more than %d members", maxMembers)
		default:
			seen = append(seen, key.Str)
		}
		if err == nil && value.Type == gjson.JSON {
			err = checkNames(value, depth+1)
		}
		return err == nil
	})
	return err
}

func plainName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// clipped is a with its list of rejected lines within MaxRejected and
// MaxRejectedError. The list is for people: too much of it must not make a
// receipt unreadable.
func (a *Ack) clipped() *Ack {
	c := *a
	if more := len(a.Rej) - MaxRejected; more > 0 {
		c.Rej, c.RejMore = a.Rej[:MaxRejected], a.RejMore+more
	}
	c.Rej = slices.Clone(c.Rej)
	for i := range c.Rej {
		c.Rej[i].Error = clip(c.Rej[i].Error, MaxRejectedError)
	}
	return &c
}

// clip is at most limit bytes of s, whole characters only.
func clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// kinds are the types of control frames, under the names that the member "t" has.
var kinds = map[string]reflect.Type{
	"hello": reflect.TypeFor[Hello](), "chal": reflect.TypeFor[Chal](), "auth": reflect.TypeFor[Auth](),
	"welcome": reflect.TypeFor[Welcome](), "gap": reflect.TypeFor[Gap](), "ack": reflect.TypeFor[Ack](),
	"busy": reflect.TypeFor[Busy](), "nak": reflect.TypeFor[Nak](), "bye": reflect.TypeFor[Bye](),
	"err": reflect.TypeFor[Err](),
}

func name(f Frame) string {
	for name, kind := range kinds {
		if kind == reflect.TypeOf(f).Elem() {
			return name
		}
	}
	panic(fmt.Sprintf("handshake: %T is not a frame", f))
}

// blank is an empty frame of the kind with this name; nil: there is none.
func blank(name string) Frame {
	kind, ok := kinds[name]
	if !ok {
		return nil
	}
	return reflect.New(kind).Interface().(Frame)
}
