// Command quickstart is the program of docs/quickstart.md.
package main

import (
	"context"
	"crypto/subtle"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"
	"github.com/stripe/stripe-go/v85"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov5"
)

func main() {
	pool, err := pgxpool.New(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	app, err := newApp(pool, webhooks.SplitSecrets(os.Getenv("STRIPE_WEBHOOK_SECRET")), os.Getenv("ADMIN_PASSWORD"))
	if err != nil {
		log.Fatal(err)
	}
	if err := app.Start("127.0.0.1:8080"); err != nil {
		log.Fatal(err)
	}
}

func newApp(pool *pgxpool.Pool, secrets []string, adminPassword string) (*echo.Echo, error) {
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil) // keeps the table subscriptions equal to Stripe's objects
	webhooks.On(h, "invoice.paid", grantCredits)

	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: secrets})
	if err != nil {
		return nil, err
	}
	if err := r.Ready(context.Background()); err != nil {
		log.Print(err) // until it is fixed, deliveries are answered 503, and Stripe retries them
	}
	e := echo.New()
	echov5.Mount(e, "/webhooks/stripe", r)
	admin := e.Group("/admin/stripe", middleware.BasicAuth(func(_ *echo.Context, user, password string) (bool, error) {
		right := subtle.ConstantTimeCompare([]byte(password), []byte(adminPassword)) == 1
		return user == "admin" && adminPassword != "" && right, nil
	}))
	echov5.MountConsole(admin, console.New(pool, r, nil))
	return e, nil
}

// grantCredits is the handler of invoice.paid. What it does through tx commits together with the event's record.
func grantCredits(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
	if inv.Customer == nil {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO credits (customer_id, cents) VALUES ($1, $2)`, inv.Customer.ID, inv.AmountPaid)
	return err
}
