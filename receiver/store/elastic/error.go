package elastic

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/tidwall/gjson"
)

const (
	maxReason    = 2 << 10 // bytes
	maxBeginning = 300     // bytes of an answer that is not JSON
)

// Error is an engine's refusal, of a request or of one document, or the lack
// of an answer.
type Error struct {
	Status int    // as in HTTP; 0: no answer
	Type   string // the engine's name for it, such as cluster_block_exception
	Reason string // in its words, up to where it quotes the document
	Err    error  // why there was no answer

	whole   bool // the request was refused, not one document of it
	strange bool // the answer is none of an engine
}

// newError reads an error object. The cause is read only where the reason says
// nothing alone: elsewhere it repeats the value that could not be read.
func newError(status int, object gjson.Result) *Error {
	e := &Error{Status: status, Type: object.Get("type").Str, Reason: unquoted(object.Get("reason").Str)}
	if cause := object.Get("caused_by.reason").Str; cause != "" && strings.HasSuffix(e.Reason, "failed to parse") {
		e.Reason += ": " + unquoted(cause)
	}
	e.Reason = cut(e.Reason, maxReason)
	if status == http.StatusRequestEntityTooLarge && e.Type == "" { // a proxy's answer, not JSON
		e.Type, e.Reason = "request_entity_too_large", "requests of this size are refused"
	}
	return e
}

// answeredError reads the body of an answer that is no success. A proxy's is
// not JSON: its beginning is shown.
func answeredError(status int, body []byte) *Error {
	e := newError(status, gjson.GetBytes(body, "error"))
	if e.Reason == "" {
		e.Reason = beginning(body)
	}
	return e
}

// beginning is the beginning of a text, in one line.
func beginning(body []byte) string {
	text := strings.ToValidUTF8(string(body[:min(len(body), maxBeginning)]), "")
	return strings.Join(strings.FieldsFunc(text, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) }), " ")
}

// unquoted is a reason up to where engines begin to quote what they could not
// read: a value, or the whole HTTP request with its credentials.
func unquoted(reason string) string {
	for _, quote := range []string{"\n", " Preview of field's value:", " The prefix of the first immense term"} {
		reason, _, _ = strings.Cut(reason, quote)
	}
	return reason
}

func (e *Error) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("no answer from the engine: %v", e.Err)
	case e.Type != "":
		return fmt.Sprintf("the engine answered %d %s: %s", e.Status, e.Type, e.Reason)
	case e.Reason != "":
		return fmt.Sprintf("the engine answered %d: %s", e.Status, e.Reason)
	}
	return fmt.Sprintf("the engine answered %d", e.Status)
}

func (e *Error) Unwrap() error { return e.Err }

// Hint says what an operator can do.
func (e *Error) Hint() string {
	switch {
	case e.Status == 0, e.Status >= http.StatusInternalServerError:
		return "see whether the engine is up, its address right and its certificate signed by the CA that is given"
	case e.isBlock():
		return "the engine does not allow to write or create the index: free disk space on it, or lift the block"
	case e.Status == http.StatusTooManyRequests:
		return "the engine is overloaded; it is asked again, more slowly"
	case e.Status == http.StatusUnauthorized:
		return "the engine does not know these credentials: write valid ones into the file of --engine-auth, which is read again"
	case e.Status == http.StatusForbidden:
		return "these credentials may not do this: they need create_index, create_doc and read on wsrelay-*"
	case e.Status == http.StatusRequestEntityTooLarge:
		return "a proxy or the engine takes no document of this size: raise its limit (http.max_content_length, client_max_body_size)"
	case e.Type == "validation_exception":
		return "the cluster is at its limit of shards: delete old indices or raise cluster.max_shards_per_node"
	case e.Status == http.StatusNotFound:
		return "the index is missing and may not be created: allow wsrelay-* in action.auto_create_index"
	}
	return "the reason is the engine's; nothing is lost, the lines wait with their senders"
}

// transient reports whether waiting may help. It does not say whose fault the
// refusal is: see [Store.try].
func (e *Error) transient() bool {
	return e.Status == 0 || e.Status == http.StatusTooManyRequests ||
		e.Status >= http.StatusInternalServerError || e.isBlock()
}

// isBlock reports whether the engine takes no writes, or makes no index, until
// an administrator lifts that, or its disk has space again.
func (e *Error) isBlock() bool {
	return e.Type == "cluster_block_exception" || e.Type == "index_create_block_exception"
}

// isIndexBlock reports whether an administrator has closed just this index to
// writes. The block of a full disk (12) is not meant: it goes with its cause,
// and the dead letters' index has it, too.
func (e *Error) isIndexBlock() bool {
	return e.isBlock() && e.Status == http.StatusForbidden && strings.HasPrefix(e.Reason, "index [") &&
		!strings.Contains(e.Reason, "/12/")
}

// isFinal reports whether the refusal of a dead letter will stay.
func (e *Error) isFinal() bool {
	switch e.Status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
		return true
	}
	return e.isIndexBlock()
}

// cut shortens s to at most n bytes, at a character's end.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
