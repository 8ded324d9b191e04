package main

import (
	"os"
	"testing"

	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

func TestCredits(t *testing.T) {
	pool := webhookstest.Database(t, os.Getenv("DATABASE_URL"), `CREATE TABLE credits (customer_id text, cents bigint)`)
	app, err := newApp(pool, []string{webhookstest.Secret}, "")
	if err != nil {
		t.Fatal(err)
	}
	stripe := webhookstest.New(t, app, "/webhooks/stripe", webhookstest.Secret)
	invoice := webhookstest.Invoice{CustomerID: "cus_1", AmountDue: 500}
	paid := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: invoice}
	stripe.Expect(paid, webhooks.OutcomeProcessed)
	stripe.Storm(paid) // duplicates, one after the other and concurrent
	var cents int
	if err := pool.QueryRow(t.Context(), `SELECT sum(cents) FROM credits`).Scan(&cents); err != nil || cents != 500 {
		t.Errorf("the customer has %d cents, %v", cents, err)
	}
}
