// Package timeline counts events by minute, for a chart.
package timeline

import (
	"sync"
	"time"
)

// length is how far back a Timeline reaches, in minutes: 30 days, which take 173 kB.
const length = 30 * 24 * 60

// Timeline counts events by minute. Its zero value is ready to use. It is safe for concurrent use.
type Timeline struct {
	mu     sync.Mutex
	counts [length]uint32 // a ring
	newest int64          // the newest minute with an event, in Unix time
}

func minuteOf(at time.Time) int64 { return at.Unix() / 60 }

// Add counts one event.
func (t *Timeline) Add(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	minute := minuteOf(at)
	if minute < 0 {
		return
	}
	if minute <= t.newest-length { // the clock had been ahead
		t.counts, t.newest = [length]uint32{}, minute
	}
	for m := max(t.newest, minute-length) + 1; m <= minute; m++ {
		t.counts[m%length] = 0
	}
	t.newest = max(t.newest, minute)
	t.counts[minute%length]++
}

// Read returns the counts since a time in spans of a width, by the start of each span (see time.Time.Truncate). Empty spans
// are left out.
func (t *Timeline) Read(since time.Time, width time.Duration) map[time.Time]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	spans := map[time.Time]uint64{}
	for m := max(minuteOf(since), t.newest-length+1, 0); m <= t.newest; m++ {
		if n := t.counts[m%length]; n > 0 {
			spans[time.Unix(m*60, 0).UTC().Truncate(width)] += uint64(n)
		}
	}
	return spans
}
