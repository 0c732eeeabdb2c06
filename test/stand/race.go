//go:build race

package stand

// Race tells whether the tests run under the race detector.
const Race = true
