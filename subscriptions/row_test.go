package subscriptions

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/webhooks"
)

// The row that an event's first trip brings is the whole row: no column is left out but, where it is not
// wanted, the object.
func TestRowForEvent(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	Register(h, nil)
	host := hooktest.New(t, h, nil)
	host.Expect(t, hooktest.Event("evt_1", "customer.subscription.created", 100, `{"id":"sub_1","object":"subscription","customer":"cus_1",
		"status":"trialing","currency":"usd","created":1,"cancel_at_period_end":true,"cancel_at":2,"canceled_at":3,"ended_at":4,"trial_start":5,
		"trial_end":6,"collection_method":"send_invoice","latest_invoice":"in_1","metadata":{"a":"b"},"livemode":true,
		"items":{"data":[{"id":"si_1","quantity":7,"current_period_start":8,"current_period_end":9,"price":{"id":"price_1","product":"prod_1"}}]}}`),
		200, webhooks.OutcomeProcessed)
	queries, ctx := db.New(), t.Context()
	want, err := queries.SubscriptionGet(ctx, host.Pool, "sub_1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		created time.Time
		whole   bool
		object  bool
	}{
		"the object is wanted": {time.Unix(200, 0), true, true},
		"of the same second":   {time.Unix(100, 0), false, true},
		"of another second":    {time.Unix(200, 0), false, false},
	} {
		row, err := queries.SubscriptionGetForEvent(ctx, host.Pool, db.SubscriptionGetForEventParams{
			ID: "sub_1", EventID: "evt_2", EventCreatedAt: &c.created, WithObject: c.whole,
		})
		if err != nil {
			t.Fatal(err)
		}
		expected := want
		if !c.object {
			expected.Subscription.Object = nil
		}
		if diff := cmp.Diff(&expected, withoutObject(&row)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
