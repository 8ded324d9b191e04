package timeline

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTimeline(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	counted := &Timeline{}
	for _, minutes := range []int{0, 1, 1, 59, 60, 200, 90} { // the last one came in late
		counted.Add(day.Add(time.Duration(minutes) * time.Minute))
	}
	hour := func(n int) time.Time { return day.Add(time.Duration(n) * time.Hour) }
	for _, c := range []struct {
		since time.Time
		want  map[time.Time]uint64
	}{
		{day.AddDate(0, 0, -90), map[time.Time]uint64{hour(0): 4, hour(1): 2, hour(3): 1}},
		{day.Add(time.Minute), map[time.Time]uint64{hour(0): 3, hour(1): 2, hour(3): 1}},
		{hour(4), map[time.Time]uint64{}},
	} {
		if diff := cmp.Diff(c.want, counted.Read(c.since, time.Hour)); diff != "" {
			t.Errorf("since %s: %s", c.since, diff)
		}
	}
	// Counts older than the ring are dropped, also if no event came meanwhile.
	counted.Add(hour(1).AddDate(0, 0, 30))
	if diff := cmp.Diff(map[time.Time]uint64{hour(1): 1, hour(3): 1, hour(1).AddDate(0, 0, 30): 1}, counted.Read(day, time.Hour)); diff != "" {
		t.Error(diff)
	}
	counted.Add(time.Unix(-60, 0))
	counted.Add(day.AddDate(1, 0, 0))
	if diff := cmp.Diff(map[time.Time]uint64{day.AddDate(1, 0, 0): 1}, counted.Read(day, time.Hour)); diff != "" {
		t.Error(diff)
	}
	// A clock that was ahead does not stop the count.
	counted.Add(day)
	if diff := cmp.Diff(map[time.Time]uint64{day: 1}, counted.Read(day, time.Hour)); diff != "" {
		t.Error(diff)
	}
}
