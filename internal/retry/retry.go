// Package retry has the pauses between attempts that never end.
package retry

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Connect draws each pause from zero to a bound that doubles from least to 30 times
// that: those whose receiver was restarted must not all come back at once.
func Connect(least time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(least/2), // the mean
		backoff.WithMaxInterval(30*least/2),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(1), backoff.WithMaxElapsedTime(0),
	)
}

// Store pauses for about 50 ms at first, and in the end for about most, between
// attempts of one process at its own store.
func Store(most time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(most), backoff.WithMaxElapsedTime(0),
	)
}
