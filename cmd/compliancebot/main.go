// Command compliancebot is a host as its owner would write it: an Echo application with tables of its
// own, among them one called subscriptions, that mounts stripeonce's route. stripeonce's tables are in
// the PostgreSQL schema stripe of the same database.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/spf13/cobra"
	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/commands"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov4"
)

// Without arguments it serves; `compliancebot stripe …` are stripeonce's commands, with the handlers below.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := &cobra.Command{Use: "compliancebot", RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context()) }}
	root.AddCommand(commands.New(&commands.Config{Open: openHost}))
	code := commands.Execute(ctx, root)
	stop()
	os.Exit(code)
}

func serve(ctx context.Context) error {
	host, err := openHost(ctx, true)
	if err != nil {
		return err
	}
	defer host.Close()
	e := echo.New()
	e.HideBanner = true
	e.Use(middleware.RequestID(), middleware.Recover(), middleware.Secure())
	echov4.Mount(e, "/webhooks/stripe", host.Receiver)
	e.GET("/customers/:id/subscription", currentSubscription(host.Pool))
	go func() {
		<-ctx.Done()
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		log.Print("stopped: ", errors.Join(e.Shutdown(deadline), host.Receiver.Shutdown(deadline)))
	}()
	if err := e.Start(os.Getenv("ADDR")); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return host.Receiver.Shutdown(context.WithoutCancel(ctx))
}

// openHost connects, and registers what Stripe's events do here.
func openHost(ctx context.Context, _ bool) (*commands.Host, error) {
	pool, err := openPool(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return nil, err
	}
	secrets := webhooks.SplitSecrets(os.Getenv("STRIPE_WEBHOOK_SECRET"))
	key, base := os.Getenv("STRIPE_API_KEY"), os.Getenv("STRIPE_API_BASE") // optional, for what asks Stripe
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, &subscriptions.Config{OnChange: setPlan})
	webhooks.On(h, "invoice.paid", addPayment)
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: secrets, APIKey: key, APIBase: base})
	return &commands.Host{Pool: pool, Receiver: r, Projection: projection, APIKey: key, APIBase: base, Close: pool.Close}, err
}

// openPool makes "subscriptions" mean stripeonce's on this pool, and finds compliancebot's other tables.
func openPool(ctx context.Context, databaseURL string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["search_path"] = "stripe, public"
	return pgxpool.NewWithConfig(ctx, config)
}

// setPlan gives the organization the plan of the customer's current subscription, which need not be the
// one that changed, and writes down the change. The organization's row is locked first, so that of two
// subscriptions that change at once the second sees the first.
func setPlan(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
	var before string
	err := tx.QueryRow(ctx, `SELECT plan FROM organizations WHERE stripe_customer_id = $1 FOR UPDATE`, c.After.CustomerID).Scan(&before)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // a customer of another application
	}
	if err != nil {
		return err
	}
	current, err := subscriptions.New(tx).Current(ctx, c.After.CustomerID)
	if err != nil {
		return err
	}
	after := planOf(current)
	if after == before {
		return nil
	}
	if _, err := tx.Exec(ctx, `UPDATE organizations SET plan = $1 WHERE stripe_customer_id = $2`, after, c.After.CustomerID); err != nil {
		return err
	}
	cause := "import"
	if c.Event != nil {
		cause = c.Event.ID
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit_log (stripe_event_id, stripe_subscription_id, before, after) VALUES ($1, $2, $3, $4)`,
		cause, c.After.ID, before, after)
	return err
}

// planOf is the price while the subscription is worth something, else "free".
func planOf(sub *subscriptions.Subscription) string {
	if sub.Status.Entitled() {
		return sub.PriceID
	}
	return "free"
}

// addPayment adds up what the organization has paid: nothing that may happen twice.
func addPayment(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
	if inv.Customer == nil {
		return nil
	}
	_, err := tx.Exec(ctx, `UPDATE organizations SET paid_cents = paid_cents + $1 WHERE stripe_customer_id = $2`, inv.AmountPaid, inv.Customer.ID)
	return err
}

// currentSubscription answers from the typed accessors.
func currentSubscription(pool *pgxpool.Pool) echo.HandlerFunc {
	return func(c echo.Context) error {
		sub, err := subscriptions.New(pool).Current(c.Request().Context(), c.Param("id"))
		if errors.Is(err, subscriptions.ErrNotFound) {
			return echo.NewHTTPError(http.StatusNotFound, "this customer has no subscription")
		}
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, map[string]any{
			"id": sub.ID, "status": sub.Status, "plan": planOf(sub), "quantity": sub.Quantity, "current_period_end": sub.CurrentPeriodEnd,
		})
	}
}
