//go:build race

package pgtest

// Race reports whether the race detector is on, which makes everything about ten times slower and larger.
const Race = true
