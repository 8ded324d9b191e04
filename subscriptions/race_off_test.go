//go:build !race

package subscriptions

// raceEnabled is true under the race detector, which makes everything some ten times slower.
const raceEnabled = false
