package checkout

import (
	"fmt"
	"testing"
	"time"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// Whatever the order of the two events, the user gets what was bought.
func TestCheckout(t *testing.T) {
	pool := exampletest.Database(t, Tables)
	h := webhooks.NewHandlers()
	Register(h)
	stripe := exampletest.App(t, pool, h)
	session := func(user, customer string) webhookstest.Event {
		return webhookstest.Event{Type: "checkout.session.completed", Object: map[string]any{
			"id": webhookstest.NewID("cs_test"), "object": "checkout.session", "client_reference_id": user, "customer": customer,
		}}
	}
	created := func(customer string) webhookstest.Event {
		return webhookstest.Event{Type: "customer.subscription.created", Object: webhookstest.Subscription{ID: "sub_of_" + customer, CustomerID: customer}}
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO users (id) VALUES ('jenny'), ('karl'), ('lea')`); err != nil {
		t.Fatal(err)
	}
	stripe.Expect(session("jenny", "cus_jenny"), webhooks.OutcomeProcessed)
	stripe.Expect(created("cus_jenny"), webhooks.OutcomeProcessed)
	stripe.Expect(created("cus_karl"), webhooks.OutcomeProcessed)
	stripe.Expect(session("karl", "cus_karl"), webhooks.OutcomeProcessed)
	stripe.Storm(session("lea", "cus_lea"), created("cus_lea"))
	for n := range 30 { // both concurrently
		user := fmt.Sprint("user_", n)
		if _, err := pool.Exec(t.Context(), `INSERT INTO users (id) VALUES ($1)`, user); err != nil {
			t.Fatal(err)
		}
		stripe.Storm(session(user, "cus_"+user), created("cus_"+user))
	}
	var lost int
	if err := pool.QueryRow(t.Context(), `SELECT count(*)::int FROM users WHERE id LIKE 'user%' AND NOT entitled`).Scan(&lost); err != nil || lost > 0 {
		t.Errorf("%d users paid and got nothing, %v", lost, err)
	}
	stripe.Storm(webhookstest.Event{Type: "customer.subscription.deleted", Created: time.Now().Add(time.Minute),
		Object: webhookstest.Subscription{ID: "sub_of_cus_karl", CustomerID: "cus_karl", Status: "canceled"}})
	stripe.Expect(webhookstest.Event{Type: "customer.subscription.created", // a second one, beside which the first may end
		Object: webhookstest.Subscription{ID: "sub_second", CustomerID: "cus_jenny"}}, webhooks.OutcomeProcessed)
	stripe.Storm(webhookstest.Event{Type: "customer.subscription.deleted", Created: time.Now().Add(time.Minute),
		Object: webhookstest.Subscription{ID: "sub_of_cus_jenny", CustomerID: "cus_jenny", Status: "canceled"}})
	for user, want := range map[string]bool{"jenny": true, "karl": false, "lea": true} {
		var entitled bool
		if err := pool.QueryRow(t.Context(), `SELECT entitled FROM users WHERE id = $1`, user).Scan(&entitled); err != nil {
			t.Fatal(err)
		}
		if entitled != want {
			t.Errorf("%s is entitled: %v", user, entitled)
		}
	}
}
