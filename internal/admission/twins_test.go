package admission_test

import (
	"fmt"
	"testing"

	"github.com/pook/stripeonce/internal/admission"
)

// A twin is either remembered or not, and never another event's.
func TestTwins(t *testing.T) {
	t.Parallel()
	twins := admission.NewTwins()
	if got := twins.Of("thin"); got != "" {
		t.Errorf("without any, the twin is %q", got)
	}
	const events = 20_000
	for i := range events {
		twins.Add(fmt.Sprint("thin_", i), fmt.Sprint("snapshot_", i))
	}
	kept := 0
	for i := range events {
		switch got := twins.Of(fmt.Sprint("thin_", i)); got {
		case fmt.Sprint("snapshot_", i):
			kept++
		case "":
		default:
			t.Fatalf("the twin of thin_%d is %q", i, got)
		}
	}
	if last := twins.Of(fmt.Sprint("thin_", events-1)); last == "" || kept < 1000 {
		t.Errorf("%d are remembered, the last: %q", kept, last)
	}
}
