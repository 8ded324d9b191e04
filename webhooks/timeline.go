package webhooks

import (
	"sync"
	"time"
)

// timelineLength is how far back a timeline reaches, in minutes: 30 days, in 173 kB.
const timelineLength = 30 * 24 * 60

// timeline counts by the minute.
type timeline struct {
	mu     sync.Mutex
	counts [timelineLength]uint32 // a ring
	newest int64                  // the last minute that has been counted in, in Unix time
}

func minuteOf(at time.Time) int64 { return at.Unix() / 60 }

func (t *timeline) add(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	minute := minuteOf(at)
	if minute < 0 {
		return
	}
	if minute <= t.newest-timelineLength { // the clock had been far ahead
		t.counts, t.newest = [timelineLength]uint32{}, minute
	}
	for m := max(t.newest, minute-timelineLength) + 1; m <= minute; m++ {
		t.counts[m%timelineLength] = 0
	}
	t.newest = max(t.newest, minute)
	t.counts[minute%timelineLength]++
}

// read returns the counts since a time by spans of a width, by the begin of each, as time.Time.Truncate has it.
// Spans in which nothing was counted are left out.
func (t *timeline) read(since time.Time, width time.Duration) map[time.Time]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	spans := map[time.Time]uint64{}
	for m := max(minuteOf(since), t.newest-timelineLength+1, 0); m <= t.newest; m++ {
		if n := t.counts[m%timelineLength]; n > 0 {
			spans[time.Unix(m*60, 0).UTC().Truncate(width)] += uint64(n)
		}
	}
	return spans
}
