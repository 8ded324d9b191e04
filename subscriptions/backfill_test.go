package subscriptions_test

import (
	"testing"
	"time"

	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// backfill imports the subscriptions, and returns the result.
func (v *verified) backfill(t *testing.T) operations.ComparisonCounts {
	t.Helper()
	job, err := subscriptions.NewJob(v.Pool, &v.config)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := operations.New(v.Pool, nil).Backfill(t.Context(), operations.BackfillOptions{Jobs: []operations.Job{job}})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A backfill stores a page's subscriptions with their items together. Deliveries continue from there, and win where they are newer.
func TestBackfill(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 130, false)
	v.config.Fix, v.config.NoHooks, v.config.Rate = v.Receiver, true, 1000
	if sum := v.backfill(t); sum != (operations.ComparisonCounts{Checked: 130, Drifted: 130, Fixed: 130}) {
		t.Errorf("it is %+v", sum)
	}
	if n := len(v.api.Requests()); n != 3 { // one for test clocks
		t.Errorf("it takes %d requests for 130 subscriptions", n)
	}
	if len(v.changes) != 0 {
		t.Errorf("OnChange was called %d times", len(v.changes))
	}
	v.expectTruth(t)
	v.Expect(t, v.account.Events[0].Body, 200, webhooks.OutcomeStale)
	v.account.Wait(time.Hour)
	v.account.Subscriptions[0].SetQuantity(77)
	v.account.Subscriptions[1].Delete()
	v.Expect(t, v.account.Events[len(v.account.Events)-1].Body, 200, webhooks.OutcomeProcessed)
	v.account.Wait(time.Hour)
	if sum := v.backfill(t); sum != (operations.ComparisonCounts{Checked: 130, Drifted: 1, Fixed: 1}) { // the lost event's
		t.Errorf("again it is %+v", sum)
	}
	v.expectTruth(t)
}

// With hooks, OnChange is told that it is an import: nobody is activated by it.
func TestBackfillWithHooks(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 5, false)
	if _, err := subscriptions.NewJob(v.Pool, &v.config); err == nil {
		t.Error("without a receiver there is a job")
	}
	v.config.Fix = v.Receiver
	if sum := v.backfill(t); sum.Fixed != 5 || len(v.changes) != 5 {
		t.Errorf("it is %+v, with %d calls of OnChange", sum, len(v.changes))
	}
	for _, c := range v.changes {
		if !c.Imported || c.Event != nil || c.Before != nil || c.Activated() {
			t.Errorf("a change is %+v", c)
		}
	}
}
