package operations

import (
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ types, want string }{
		{"invoice.paid", "invoice.paid"},
		{"x.y invoice.paid invoice.paid", "invoice.paid x.y"},
		{"invoice.paid *", "*"},
		{"a.b invoice.paid *", "* a.b"}, // it may need explicit selection
		{"invoice.paid v2.core.account.updated billing.meter.no_meter_found", "invoice.paid"},
		{"billing.alert.*", "billing.alert.triggered"},
		{"customer.subscription.*", "customer.subscription.created customer.subscription.deleted customer.subscription.paused " +
			"customer.subscription.pending_update_applied customer.subscription.pending_update_expired customer.subscription.resumed " +
			"customer.subscription.trial_will_end customer.subscription.updated"},
	} {
		if got := strings.Join(expand(PayloadSnapshot, strings.Fields(c.types)), " "); got != c.want {
			t.Errorf("%s becomes %s, want %s", c.types, got, c.want)
		}
	}
}
