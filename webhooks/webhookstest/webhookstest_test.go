package webhookstest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// A storm against an application whose handler fails now and then.
func TestStorm(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `CREATE TABLE credits (customer text, amount bigint)`)
	var calls atomic.Int64
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		if _, err := tx.Exec(ctx, `INSERT INTO credits VALUES ($1, $2)`, inv.Customer.ID, inv.AmountPaid); err != nil {
			return err
		}
		if calls.Add(1)%3 == 0 {
			return errors.New("now and then")
		}
		return nil
	})
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{webhookstest.Secret}})
	if err != nil {
		t.Fatal(err)
	}
	app := echo.New()
	echov4.Mount(app, "/webhooks/stripe", r)
	sender := webhookstest.New(t, app, "/webhooks/stripe", webhookstest.Secret)

	var events []webhookstest.Event
	for n := range 10 {
		events = append(events, webhookstest.Event{Type: "invoice.paid", Object: map[string]any{"object": "invoice", "customer": fmt.Sprint("cus_", n), "amount_paid": 500}})
	}
	sub := webhookstest.Subscription{ID: "sub_1", CustomerID: "cus_1", PriceID: "price_gold", Quantity: 3}
	created := time.Now().Add(-time.Hour)
	events = append(events, webhookstest.Event{Type: "customer.subscription.created", Created: created, Object: sub})
	sub.Status, sub.Metadata = "past_due", map[string]string{"a": "b"}
	events = append(events, webhookstest.Event{Type: "customer.subscription.updated", Created: created.Add(time.Minute), Object: sub})
	sender.Storm(events...)
	if n := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM credits`); n != 10 {
		t.Errorf("ten invoices gave %d credits", n)
	}
	got, err := subscriptions.New(pool).Get(t.Context(), "sub_1")
	if err != nil || got.Status != subscriptions.StatusPastDue || got.PriceID != "price_gold" || *got.Quantity != 3 || got.Metadata["a"] != "b" {
		t.Errorf("the subscription is %+v, %v", got, err)
	}

	id := sender.Expect(webhookstest.Event{Type: "x.y", Account: "acct_1", Livemode: true}, webhooks.OutcomeIgnored)
	if id == "" {
		t.Error("the reply names no event")
	}
	body := webhookstest.Event{Type: "x.y"}.Body()
	if reply := sender.Post(body, webhookstest.SignAt(body, webhookstest.Secret, time.Now().Add(-time.Hour))); reply.Status != http.StatusBadRequest {
		t.Errorf("an old signature is answered %s", reply)
	}
}
