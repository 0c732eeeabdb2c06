package elastic

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/tidwall/gjson"
)

const (
	bulkPath = "/_bulk?filter_path=items.*._id,items.*.status,items.*.error"
	ndjson   = "application/x-ndjson"
)

// outcome is what the last answer means for one document.
type outcome int

const (
	unknown  outcome = iota // no answer, or one that waiting may change: send it again
	stored                  // created by this request
	exists                  // the id is taken: see by what
	refused                 // for its content, for ever
	failed                  // for a reason that a human has to mend
	same                    // the id is taken by the same line
	rejected                // its dead letter is stored
)

// bulk asks the engine to create the documents and notes the outcome on each.
// It reports whether the engine asked for less.
func (c *Client) bulk(ctx context.Context, ops []*op) (throttled bool) {
	size := 0
	for _, o := range ops {
		size += len(o.body)
	}
	body := make([]byte, 0, size)
	for _, o := range ops {
		body = append(body, o.body...)
	}
	answer, err := c.call(ctx, http.MethodPost, bulkPath, ndjson, body)
	if err == nil {
		err = judgeItems(ops, answer)
	}
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
		o.judge(e)
	}
	return e.Status == http.StatusTooManyRequests
}

// halves sends the documents of a request that was refused as a whole in two.
// When that leads to a single document and a reason that is not in it, the
// rest would be refused likewise and is not sent.
func (c *Client) halves(ctx context.Context, ops []*op) (throttled bool) {
	left, right := ops[:len(ops)/2], ops[len(ops)/2:]
	throttled = c.bulk(ctx, left)
	if o := left[0]; o.outcome == failed && o.err.whole && o.err.Status == http.StatusBadRequest {
		for _, r := range right {
			r.outcome, r.err = failed, o.err
		}
		return throttled
	}
	return c.bulk(ctx, right) || throttled
}

// judgeItems notes what the answer to a bulk says. An answer that is not about
// exactly these documents, in this order, says nothing.
func judgeItems(ops []*op, answer []byte) error {
	n := 0
	inOrder := true
	gjson.GetBytes(answer, "items").ForEach(func(_, item gjson.Result) bool {
		if n < len(ops) {
			item = item.Get("create")
			inOrder = inOrder && item.Get("_id").Str == ops[n].id
			ops[n].judgeItem(int(item.Get("status").Int()), item.Get("error"))
		}
		n++
		return true
	})
	if n != len(ops) || !inOrder {
		return &Error{Err: fmt.Errorf("%d documents were sent, the answer is about %d others", len(ops), n)}
	}
	return nil
}

func (o *op) judgeItem(status int, object gjson.Result) {
	o.takenIn = ""
	switch status {
	case http.StatusOK, http.StatusCreated:
		o.outcome, o.err = stored, nil
	case http.StatusConflict:
		o.outcome, o.err, o.takenIn = exists, nil, object.Get("index").Str
	default:
		o.judge(newError(status, object))
	}
}

func (o *op) judge(e *Error) {
	o.err = e
	switch {
	case e.transient():
		o.outcome = unknown
	case e.ofDocument() && o.dead == nil:
		o.outcome = refused
	default:
		o.outcome = failed
	}
}

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Err: err}
}
