package subscriptions_test

import (
	"testing"

	"github.com/pook/stripeonce/subscriptions"
)

func TestEntitled(t *testing.T) {
	t.Parallel()
	for status, want := range map[subscriptions.Status]bool{
		"active": true, "trialing": true, "past_due": false, "unpaid": false, "paused": false, "incomplete": false,
		"incomplete_expired": false, "canceled": false, "something_new": false,
	} {
		if got := status.Entitled(); got != want {
			t.Errorf("%s is entitled: %v", status, got)
		}
	}
	if !subscriptions.StatusPastDue.Entitled(subscriptions.StatusPastDue) || subscriptions.StatusUnpaid.Entitled(subscriptions.StatusPastDue) {
		t.Error("past_due is not entitled where it should be, or unpaid is")
	}
}

// Every change from a status, or from nothing, to another.
func TestActivatedAndCanceled(t *testing.T) {
	t.Parallel()
	statuses := []subscriptions.Status{"", "incomplete", "incomplete_expired", "trialing", "active", "past_due", "unpaid", "paused", "canceled"}
	entitled := map[subscriptions.Status]bool{"trialing": true, "active": true}
	for _, before := range statuses {
		for _, after := range statuses[1:] {
			c := subscriptions.Change{After: &subscriptions.Subscription{Status: after}}
			if before != "" {
				c.Before = &subscriptions.Subscription{Status: before}
			}
			if got, want := c.Activated(), entitled[after] && !entitled[before]; got != want {
				t.Errorf("from %q to %q: Activated is %v", before, after, got)
			}
			if got, want := c.Canceled(), after == "canceled" && before != "canceled"; got != want {
				t.Errorf("from %q to %q: Canceled is %v", before, after, got)
			}
			c.Imported = true
			if got, want := c.Canceled(), after == "canceled" && before != "canceled" && before != ""; c.Activated() || got != want {
				t.Errorf("imported, from %q to %q: Activated is %v, Canceled %v", before, after, c.Activated(), got)
			}
		}
	}
}
