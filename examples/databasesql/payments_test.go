package databasesql

import (
	_ "embed"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pook/stripeonce/examples/databasesql/store"
	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

//go:embed schema.sql
var tables string

// Each paid invoice counts once, however often and in whatever order its events arrive.
func TestEveryInvoiceCountsOnce(t *testing.T) {
	pool := exampletest.Database(t, tables)
	h := webhooks.NewHandlers()
	Register(h)
	stripe := exampletest.App(t, pool, h)
	var events []webhookstest.Event
	for n := range 20 {
		events = append(events, webhookstest.Event{Type: "invoice.paid", Created: time.Now(), Object: map[string]any{
			"id": fmt.Sprint("in_", n), "object": "invoice", "customer": fmt.Sprint("cus_", n%2), "amount_paid": 100,
		}})
	}
	stripe.Storm(events...)
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	accounts, err := store.New(db).AccountList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(accounts), "[{cus_0 1000} {cus_1 1000}]"; got != want {
		t.Errorf("the accounts are %s, want %s", got, want)
	}
}
