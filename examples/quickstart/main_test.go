package main

import (
	"testing"

	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

func TestCredits(t *testing.T) {
	pool := newDatabase(t, `CREATE TABLE credits (customer_id text, cents bigint)`)
	app, err := newApp(pool, []string{webhookstest.Secret}, "")
	if err != nil {
		t.Fatal(err)
	}
	stripe := webhookstest.New(t, app, "/webhooks/stripe", webhookstest.Secret)
	paid := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: map[string]any{"id": "in_1", "customer": "cus_1", "amount_paid": 500}}
	stripe.Expect(paid, webhooks.OutcomeProcessed)
	stripe.Storm(paid) // duplicates, one after the other and concurrent
	var cents int
	if err := pool.QueryRow(t.Context(), `SELECT sum(cents) FROM credits`).Scan(&cents); err != nil || cents != 500 {
		t.Errorf("the customer has %d cents, %v", cents, err)
	}
}
