//go:build race

package pgtest

// Race is true under the race detector, which makes everything some ten times slower and larger.
const Race = true
