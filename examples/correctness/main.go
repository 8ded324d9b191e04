// Command correctness is the receiver of docs/is-your-handler-correct.md that mounts stripeonce. It does what ordinary.mjs does.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	slog.SetLogLoggerLevel(slog.LevelWarn) // not a line for each delivery
	if err := run(ctx, os.Getenv); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, getenv func(string) string) error {
	databaseURL := getenv("DATABASE_URL")
	if databaseURL == "" { // for a first try: a private PostgreSQL that ends with this program
		cluster, err := pglocal.Start(ctx, pglocal.Config{})
		if err != nil {
			return err
		}
		defer cluster.Stop()
		databaseURL = cluster.URL("postgres")
		log.Printf("its tables: psql '%s'", databaseURL)
	}
	if err := migrate.Up(ctx, databaseURL, io.Discard); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS credits (invoice text, customer text, cents bigint)`); err != nil {
		return err
	}
	app, err := newApp(pool, &webhooks.Config{
		Secrets: webhooks.SplitSecrets(getenv("STRIPE_WEBHOOK_SECRET")),
		APIKey:  getenv("STRIPE_API_KEY"), // optional: fetches from Stripe where events alone cannot settle their order
		APIBase: getenv("STRIPE_API_BASE"),
	})
	if err != nil {
		return err
	}
	address := "127.0.0.1:3001"
	if port := getenv("PORT"); port != "" {
		address = "127.0.0.1:" + port
	}
	app.HideBanner, app.HidePort = true, true
	context.AfterFunc(ctx, func() { _ = app.Shutdown(context.WithoutCancel(ctx)) })
	log.Printf("a receiver with stripeonce: http://%s/webhooks/stripe", address)
	if err := app.Start(address); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newApp(pool *pgxpool.Pool, config *webhooks.Config) (*echo.Echo, error) {
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil) // keeps the tables subscriptions and subscription_items
	webhooks.On(h, "invoice.paid", credit)
	r, err := webhooks.New(pool, h, config)
	if err != nil {
		return nil, err
	}
	e := echo.New()
	echov4.Mount(e, "/webhooks/stripe", r)
	e.GET("/tables", func(c echo.Context) error {
		var tables []byte
		if err := pool.QueryRow(c.Request().Context(), tablesQuery).Scan(&tables); err != nil {
			return err
		}
		return c.JSONBlob(http.StatusOK, tables)
	})
	return e, nil
}

// credit is the handler of invoice.paid. What it does through tx commits together with the event's record.
func credit(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
	_, err := tx.Exec(ctx, `INSERT INTO credits (invoice, customer, cents) VALUES ($1, $2, $3)`, inv.ID, inv.Customer.ID, inv.AmountPaid)
	if err == nil && failsOnPurpose(ev.ID) {
		err = errors.New("a timeout, a deadlock, a deploy, …")
	}
	return err
}

var failed sync.Map

// failsOnPurpose reports whether this is the first attempt of one event in 20, as in ordinary.mjs.
func failsOnPurpose(eventID string) bool {
	sum := 0
	for _, b := range []byte(eventID) {
		sum += int(b)
	}
	_, before := failed.LoadOrStore(eventID, true)
	return sum%20 == 0 && !before
}

const tablesQuery = `
SELECT json_build_object(
	'subscriptions', (SELECT coalesce(json_agg(json_build_object(
		'id', id, 'status', status, 'cancel_at_period_end', cancel_at_period_end, 'items',
		(SELECT json_agg(json_build_object('price', price_id, 'quantity', quantity)) FROM subscription_items WHERE subscription_id = s.id)
	)), '[]') FROM subscriptions AS s),
	'credits', (SELECT coalesce(json_agg(json_build_object('invoice', invoice)), '[]') FROM credits))`
