//go:build race

package stand

// Race: the tests run under the race detector.
const Race = true
