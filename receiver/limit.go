package receiver

import (
	"sync/atomic"

	"golang.org/x/time/rate"
)

// limiter lets so much through in a second, and burst, at least one, at once.
func limiter(perSecond, burst float64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), int(max(burst, 1)))
}

// logLimiter lets few log lines through and counts the others.
type logLimiter struct {
	*rate.Limiter
	suppressed atomic.Int64
}

func (c *logLimiter) allow() (suppressed int64, ok bool) {
	if !c.Allow() {
		c.suppressed.Add(1)
		return 0, false
	}
	return c.suppressed.Swap(0), true
}
