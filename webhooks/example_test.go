package webhooks_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
)

// A receiver in an Echo application.
func Example() {
	pool, err := pgxpool.New(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
		_, err := tx.Exec(ctx, `INSERT INTO payments (invoice_id, cents) VALUES ($1, $2)`, inv.ID, inv.AmountPaid)
		return err
	})
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: webhooks.SplitSecrets(os.Getenv("STRIPE_WEBHOOK_SECRET"))})
	if err != nil {
		log.Fatal(err)
	}
	e := echo.New()
	echov4.Mount(e, "/webhooks/stripe", r)
	log.Fatal(e.Start(":8080"))
}

// A function for several types, with an object of the caller's own: only what it needs of Stripe's.
func ExampleOn() {
	type dispute struct {
		ID     string `json:"id"`
		Charge string `json:"charge"`
		Reason string `json:"reason"`
	}
	h := webhooks.NewHandlers()
	webhooks.On(h, "charge.dispute.*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, d *dispute) error {
		_, err := tx.Exec(ctx, `INSERT INTO dispute_log (dispute, charge, reason, happened) VALUES ($1, $2, $3, $4)`, d.ID, d.Charge, d.Reason, ev.Created)
		return err
	})
}

// An event that no retry will help waits for a person.
func ExamplePark() {
	h := webhooks.NewHandlers()
	addCredit := func(context.Context, pgx.Tx, *stripe.Invoice) error { return nil }
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
		if inv.Customer == nil {
			return webhooks.Park(errors.New("an invoice without a customer"))
		}
		return addCredit(ctx, tx, inv)
	})
}

// A receiver with net/http.
func ExampleReceiver_ServeHTTP() {
	var r *webhooks.Receiver // from New
	http.Handle("POST /webhooks/stripe", r)
}

// An event from a trusted source takes effect as a delivery of it would.
func ExampleReceiver_Apply() {
	var r *webhooks.Receiver // from New
	body, err := os.ReadFile("event.json")
	if err != nil {
		log.Fatal(err)
	}
	ev, err := webhooks.ParseEvent(body)
	if err != nil {
		log.Fatal(err)
	}
	result, err := r.Apply(context.Background(), ev)
	if err != nil {
		log.Fatal(err)
	}
	log.Println(result.EventID, result.Outcome)
}
