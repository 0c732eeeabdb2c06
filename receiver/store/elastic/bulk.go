package elastic

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/tidwall/gjson"
)

const (
	bulkPath = "/_bulk?filter_path=items.*._id,items.*.status,items.*.error,items.*.failure_store"
	// In a data stream it has to be seen where a document came to be.
	streamBulkPath = bulkPath + ",items.*._index"
	ndjson         = "application/x-ndjson"
)

// outcome is what the last answer means for one document.
type outcome int

const (
	unknown  outcome = iota // no answer, or one that waiting may change: send it again
	stored                  // created by this request
	exists                  // the id is taken: see by what
	refused                 // for its content, or for a reason that a human has to fix
	same                    // the id is taken by the same line
	rejected                // its dead letter is stored
)

// bulk asks the engine to create the documents and notes the outcome on each.
// It reports whether the engine asked for less.
func (c *Client) bulk(ctx context.Context, ops []*op) (throttled bool) {
	err := c.send(ctx, ops)
	if err == nil {
		for _, o := range ops {
			throttled = throttled || o.err != nil && o.err.Status == http.StatusTooManyRequests && !o.err.isBlock()
		}
		return throttled
	}
	e := asError(err)
	if len(ops) > 1 && (e.Status == http.StatusRequestEntityTooLarge || e.Status == http.StatusBadRequest) {
		return c.halves(ctx, ops)
	}
	e.whole = true
	for _, o := range ops {
		o.setOutcome(e)
	}
	return e.Status == http.StatusTooManyRequests
}

// send asks the engine to create the documents in one request. Without an error
// it has answered about each of them.
func (c *Client) send(ctx context.Context, ops []*op) error {
	bodies := make([][]byte, len(ops))
	for i, o := range ops {
		bodies[i] = o.body
	}
	answer, err := c.request(ctx, http.MethodPost, c.bulkPath, ndjson, bodies...)
	if err != nil || allCreated(ops, answer) {
		return err
	}
	if answer, err = valid(answer); err != nil {
		return err
	}
	return readItems(ops, answer)
}

// halves sends the documents of a request that was refused as a whole in two.
// When that leads to a single document that cannot be read as a request, the
// rest counts as refused likewise and is not sent: a trial will tell.
func (c *Client) halves(ctx context.Context, ops []*op) (throttled bool) {
	left, right := ops[:len(ops)/2], ops[len(ops)/2:]
	throttled = c.bulk(ctx, left)
	if o := left[0]; o.outcome == refused && o.err.whole && o.err.Status == http.StatusBadRequest {
		for _, r := range right {
			r.outcome, r.err = refused, o.err
		}
		return throttled
	}
	return c.bulk(ctx, right) || throttled
}

// readItems notes what the answer to a bulk says. An answer that is not about
// exactly these documents, in this order, says nothing.
func readItems(ops []*op, answer []byte) error {
	n := 0
	inOrder := true
	gjson.GetBytes(answer, "items").ForEach(func(_, item gjson.Result) bool {
		if n < len(ops) {
			item = item.Get("create")
			inOrder = inOrder && item.Get("_id").Str == ops[n].id
			ops[n].readItem(int(item.Get("status").Int()), item)
		}
		n++
		return true
	})
	if n != len(ops) || !inOrder {
		return &Error{
			Err:     fmt.Errorf("%d documents were sent, the answer is about %d others", len(ops), n),
			strange: true,
		}
	}
	return nil
}

// allCreated notes that the documents are stored if the answer says that of each to
// the letter, as nearly all do; readItems reads what any other says.
func allCreated(ops []*op, answer []byte) bool {
	rest, ok := answer, true
	next := func(want string) {
		if ok = ok && len(rest) >= len(want) && string(rest[:len(want)]) == want; ok {
			rest = rest[len(want):]
		}
	}
	next(`{"items":[`)
	for i, o := range ops {
		if i > 0 {
			next(",")
		}
		next(`{"create":{"_id":"`)
		next(o.id)
		next(`","status":201}}`)
	}
	if next("]}"); !ok || len(rest) > 0 {
		return false
	}
	for _, o := range ops {
		o.outcome, o.err, o.takenIn = stored, nil, ""
	}
	return true
}

// readItem notes what the engine says of one document. One that its data stream
// has diverted to a failure store was refused.
func (o *op) readItem(status int, item gjson.Result) {
	o.takenIn = ""
	object := item.Get("error")
	if index := item.Get("_index").Str; status/100 == 2 && (item.Get("failure_store").Str == "used" || o.inStream() &&
		index != "" && index != o.index) {
		o.setOutcome(&Error{Status: http.StatusBadRequest, Type: "diverted", Reason: "the document went to " + index})
		return
	}
	switch status {
	case http.StatusOK, http.StatusCreated:
		o.outcome, o.err = stored, nil
	case http.StatusConflict:
		o.outcome, o.err, o.takenIn = exists, nil, object.Get("index").Str
	default:
		o.setOutcome(newError(status, object))
	}
}

func (o *op) setOutcome(e *Error) {
	o.err = e
	o.outcome = refused
	if e.transient() {
		o.outcome = unknown
	}
}

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Err: err}
}
