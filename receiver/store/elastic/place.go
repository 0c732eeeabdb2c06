package elastic

import "time"

// Lines whose time cannot be true go to the index of one day, so that nobody can
// make an index for each day of ten thousand years. The window is fixed, and does
// not follow the clock: a line must have the same place when it is sent again on
// another day.
var (
	windowStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	windowEnd   = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	outside     = time.Unix(0, 0).UTC() // what a clock says that was never set
)

// placed is the time by which a document gets its index.
func placed(at time.Time) time.Time {
	if at.Before(windowStart) || !at.Before(windowEnd) {
		return outside
	}
	return at.UTC()
}
