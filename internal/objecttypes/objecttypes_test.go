package objecttypes

import (
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/eventtypes"
)

// Every type is consistent: its patterns match types of events that Stripe sends, and no prefix of ids is the beginning of another.
func TestTypes(t *testing.T) {
	t.Parallel()
	all := map[string]string{}
	for object, r := range types {
		for _, pattern := range r.Events {
			if !eventtypes.Matches(pattern) {
				t.Errorf("%s: no known type of events matches %s", object, pattern)
			}
		}
		if r.Object != object || !strings.HasPrefix(r.Path, "/v1/") {
			t.Errorf("%s: %+v", object, r)
		}
		for _, prefix := range r.Prefixes {
			for other, owner := range all {
				if strings.HasPrefix(prefix, other) || strings.HasPrefix(other, prefix) {
					t.Errorf("%s of %s and %s of %s", prefix, object, other, owner)
				}
			}
			all[prefix] = object
		}
	}
	for id, want := range map[string]string{"in_1": "invoice", "inpay_1": "invoice_payment", "sub_sched_1": "subscription_schedule", "sub_1": "", "gold": ""} {
		if got := OfID(id); got != want {
			t.Errorf("%s is %q, want %q", id, got, want)
		}
	}
}
