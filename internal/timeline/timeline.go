// Package timeline counts events by the minute, for a chart.
package timeline

import (
	"sync"
	"time"
)

// length is how far back a Timeline reaches, in minutes: 30 days, in 173 kB.
const length = 30 * 24 * 60

// Timeline counts by the minute. Its zero value is ready to use, and it is safe for concurrent use.
type Timeline struct {
	mu     sync.Mutex
	counts [length]uint32 // a ring
	newest int64          // the last minute that has been counted in, in Unix time
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
	if minute <= t.newest-length { // the clock had been far ahead
		t.counts, t.newest = [length]uint32{}, minute
	}
	for m := max(t.newest, minute-length) + 1; m <= minute; m++ {
		t.counts[m%length] = 0
	}
	t.newest = max(t.newest, minute)
	t.counts[minute%length]++
}

// Read returns the counts since a time by spans of a width, by the begin of each, as time.Time.Truncate has it.
// Spans in which nothing was counted are left out.
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
