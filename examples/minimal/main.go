// Command minimal is the program of README.md.
package main

import (
	"context"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v5"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov5"
	"github.com/stripe/stripe-go/v85"
)

func main() {
	pool, err := pgxpool.New(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
		_, err := tx.Exec(ctx, `INSERT INTO payments (invoice, cents) VALUES ($1, $2)`, inv.ID, inv.AmountPaid)
		return err
	})
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: webhooks.SplitSecrets(os.Getenv("STRIPE_WEBHOOK_SECRET"))})
	if err != nil {
		log.Fatal(err)
	}
	e := echo.New()
	echov5.Mount(e, "/webhooks/stripe", r)
	if err := e.Start(":" + os.Getenv("PORT")); err != nil {
		log.Fatal(err)
	}
}
