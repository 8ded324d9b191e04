package gorm

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/pook/stripeonce/examples/exampletest"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// Each paid invoice counts once, however often and in whatever order its events arrive.
func TestEveryInvoiceCountsOnce(t *testing.T) {
	pool := exampletest.Database(t, "")
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: stdlib.OpenDBFromPool(pool)}), &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.AutoMigrate(&Account{}); err != nil {
		t.Fatal(err)
	}
	h := webhooks.NewHandlers()
	Register(h, db)
	stripe := exampletest.App(t, pool, h)
	var events []webhookstest.Event
	for n := range 20 {
		events = append(events, webhookstest.Event{Type: "invoice.paid", Created: time.Now(), Object: map[string]any{
			"id": fmt.Sprint("in_", n), "object": "invoice", "customer": fmt.Sprint("cus_", n%2), "amount_paid": 100,
		}})
	}
	stripe.Storm(events...)
	var accounts []Account
	if err := db.Order("customer_id").Find(&accounts).Error; err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(accounts), "[{cus_0 1000} {cus_1 1000}]"; got != want {
		t.Errorf("the accounts are %s, want %s", got, want)
	}
}
