package credits

import (
	"fmt"
	"testing"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

func TestCreditsAreGrantedOnce(t *testing.T) {
	pool := exampletest.Database(t, Tables)
	h := webhooks.NewHandlers()
	Register(h)
	stripe := exampletest.App(t, pool, h)
	var events []webhookstest.Event
	for n := range 20 {
		events = append(events, webhookstest.Event{Type: "invoice.paid", Object: map[string]any{
			"id": fmt.Sprint("in_", n), "object": "invoice", "customer": fmt.Sprint("cus_", n%4), "amount_paid": 100,
		}})
	}
	stripe.Storm(events...)
	for n := range 4 {
		var credits int64
		if err := pool.QueryRow(t.Context(), `SELECT credits FROM accounts WHERE customer_id = $1`, fmt.Sprint("cus_", n)).Scan(&credits); err != nil {
			t.Fatal(err)
		}
		if credits != 500 {
			t.Errorf("customer %d has %d credits, want 500", n, credits)
		}
	}
}
