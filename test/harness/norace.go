//go:build !race

package harness

// Race tells whether the tests run under the race detector.
const Race = false
