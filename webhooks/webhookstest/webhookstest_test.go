package webhookstest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
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

// A snapshot event and its thin twin take effect once. The thin event names its account, and its object is fetched.
func TestThinTwin(t *testing.T) {
	t.Parallel()
	api := webhookstest.NewAPI(t, nil)
	var seen []string
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
		seen = append(seen, fmt.Sprintf("%s %s %d %s", ev.ID, ev.Account, inv.AmountPaid, strings.Join(strings.Fields(string(ev.Previous)), "")))
		return nil
	})
	r, err := webhooks.New(pgtest.NewPool(t), h, &webhooks.Config{
		Secrets: []string{webhookstest.Secret}, APIKey: webhookstest.APIKey, APIBase: api.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	sender := webhookstest.New(t, r, "/", webhookstest.Secret)
	invoice := map[string]any{"id": "in_1", "object": "invoice", "amount_paid": 500}
	api.Set("/v1/invoices/in_1", invoice)
	for i, bare := range []bool{false, true} {
		paid := webhookstest.Event{ID: fmt.Sprint("evt_", i), Type: "invoice.paid", Account: "acct_1", Object: invoice, Previous: map[string]any{"status": "open"}}
		thin := paid.Thin("/v1/invoices/in_1")
		thin.Bare = bare
		api.Add(&thin)
		for _, c := range []struct {
			body []byte
			want webhooks.Outcome
		}{{thin.Body(), webhooks.OutcomeProcessed}, {paid.Body(), webhooks.OutcomeDuplicate}, {thin.Body(), webhooks.OutcomeDuplicate}} {
			if reply := sender.Deliver(c.body); reply.Outcome != c.want {
				t.Errorf("the reply is %s, want %s", reply, c.want)
			}
		}
	}
	if want := `[evt_0 acct_1 500 {"status":"open"} evt_1 acct_1 500 {"status":"open"}]`; fmt.Sprint(seen) != want {
		t.Errorf("the handler saw %q, want %q", fmt.Sprint(seen), want)
	}
	for _, req := range api.Requests() {
		if req.Header.Get("Stripe-Context") != "acct_1" {
			t.Errorf("the request for %s is for the account %q", req.URL.Path, req.Header.Get("Stripe-Context"))
		}
	}
}
