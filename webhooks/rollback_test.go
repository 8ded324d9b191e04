package webhooks

import (
	"context"
	"testing"
	"time"
)

// A rollback that PostgreSQL does not answer holds the reply no longer than a function that does not return.
func TestRollbackLimit(t *testing.T) {
	t.Parallel()
	if limit := rollbackLimit(t.Context()); limit != rollbackTimeout {
		t.Errorf("without a deadline it is %v", limit)
	}
	for left, want := range map[time.Duration]time.Duration{-time.Hour: timeoutGrace, time.Hour: rollbackTimeout} {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		defer cancel()
		if limit := rollbackLimit(ctx); limit != want {
			t.Errorf("%v before the deadline it is %v, want %v", left, limit, want)
		}
	}
}
