package wsrelay

import (
	"context"
	"io"
	"strings"

	"wsrelay/buffer"
)

// confirm writes OK to w now, because it is ready, and then once for each line
// that comes, when it is on disk, if that is wanted. It ends when the queue is
// closed, or nobody listens any more.
func (c *config) confirm(q *buffer.Queue, w io.Writer) (ended <-chan struct{}) {
	done, confirmed := make(chan struct{}), q.Stats().Head
	if !c.Confirm {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		_, err := io.WriteString(w, "OK\n")
		for err == nil {
			if err = q.WaitDurable(context.Background(), confirmed+1); err != nil {
				break
			}
			durable := q.Stats().Durable
			_, err = io.WriteString(w, strings.Repeat("OK\n", int(durable-confirmed)))
			confirmed = durable
		}
	}()
	return done
}
