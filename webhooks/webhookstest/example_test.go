package webhookstest_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// Build an event, sign it, and verify it with stripe-go.
func ExampleSign() {
	body := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: map[string]any{"id": "in_1", "amount_paid": 500}}.Body()
	ev, err := webhook.ConstructEventWithOptions(body, webhookstest.Sign(body, webhookstest.Secret), webhookstest.Secret,
		webhook.ConstructEventOptions{IgnoreAPIVersionMismatch: true})
	fmt.Println(ev.ID, ev.Type, ev.Data.Object["id"], err)
	// Output: evt_1 invoice.paid in_1 <nil>
}

// newApp stands for your own constructor: an *echo.Echo on the test's database, with the receiver mounted.
func newApp(*testing.T) http.Handler { return http.NotFoundHandler() }

// An application's own test: one event delivered once, then a storm of deliveries.
func ExampleStripe() {
	_ = func(t *testing.T) {
		stripe := webhookstest.New(t, newApp(t), "/webhooks/stripe", webhookstest.Secret)
		paid := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: map[string]any{"customer": "cus_1", "amount_paid": 500}}
		stripe.Expect(paid, webhooks.OutcomeProcessed)
		stripe.Expect(paid, webhooks.OutcomeDuplicate)
		stripe.Storm(paid, webhookstest.Event{Type: "customer.subscription.created", Object: webhookstest.Subscription{CustomerID: "cus_1"}})
		// now check your tables
	}
}
