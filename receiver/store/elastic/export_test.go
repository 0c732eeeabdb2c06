package elastic

import (
	"time"

	"wsrelay/receiver"
)

// Hasten lets the store pause no longer than a few milliseconds, and gives it
// another clock for blocks.
func (s *Store) Hasten(now func() time.Time) {
	s.pause = 5 * time.Millisecond
	s.blocks.now = now
}

// ForgetNewNames lets as many documents with new names come as after a pause.
func (s *Store) ForgetNewNames() {
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	s.names.fresh = nil
}

// Documents gives the body of a bulk of the very documents that Commit makes.
func Documents(prefix string, b receiver.Batch) (body []byte) {
	ops := newOps(prefix, []receiver.Batch{b})
	new(names).write(ops)
	for _, o := range ops {
		body = append(body, o.body...)
	}
	return body
}
