package engine

import (
	"testing"
	"time"
)

// A row that cannot be completed is tried again after longer and longer pauses.
func TestPostponedCompletion(t *testing.T) {
	t.Parallel()
	var pauses []time.Duration
	var row postponed
	for range 14 {
		row = row.next(time.Now())
		pauses = append(pauses, row.pause)
	}
	if pauses[0] != time.Minute || pauses[1] != 2*time.Minute || pauses[10] != 1024*time.Minute || pauses[13] != 24*time.Hour {
		t.Errorf("the pauses are %v", pauses)
	}
}
