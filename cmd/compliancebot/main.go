// Command compliancebot is an example of an application with handlers of its own: it mounts stripeonce's route in Echo. One of its
// tables is called subscriptions, too, so stripeonce's tables are in the PostgreSQL schema stripe of the same database.
package main

import (
	"context"
	"crypto/subtle"
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
	"github.com/pook/stripeonce/console"
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
	defer mountConsole(e, host, os.Getenv("CONSOLE_PASSWORD"))()
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

// mountConsole adds stripeonce's console behind a login of compliancebot's own, if there is a password. It returns a function that ends
// what the console does.
func mountConsole(e *echo.Echo, host *commands.Host, password string) (end func()) {
	if password == "" {
		return func() {}
	}
	pages := console.New(host.Pool, host.Receiver, &console.Config{
		APIKey: host.APIKey, APIBase: host.APIBase, Subscriptions: host.Projection,
		User: func(r *http.Request) string {
			user, _, _ := r.BasicAuth()
			return user
		},
	})
	echov4.MountConsole(e.Group("/admin/stripe", middleware.BasicAuth(func(user, given string, _ echo.Context) (bool, error) {
		return user != "" && subtle.ConstantTimeCompare([]byte(given), []byte(password)) == 1, nil
	})), pages)
	return pages.Close
}

// openHost connects to the database and registers the handlers.
func openHost(ctx context.Context, _ bool) (*commands.Host, error) {
	pool, err := openPool(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return nil, err
	}
	secrets := webhooks.SplitSecrets(os.Getenv("STRIPE_WEBHOOK_SECRET"))
	key, base := os.Getenv("STRIPE_API_KEY"), os.Getenv("STRIPE_API_BASE") // optional, for requests to Stripe
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, &subscriptions.Config{OnChange: setPlan})
	webhooks.On(h, "invoice.paid", addPayment)
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: secrets, APIKey: key, APIBase: base})
	host := &commands.Host{Pool: pool, Receiver: r, Projection: projection, APIKey: key, APIBase: base, Close: pool.Close}
	return host, err
}

// openPool returns a pool on which "subscriptions" is stripeonce's table. compliancebot's other tables are visible, too.
func openPool(ctx context.Context, databaseURL string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["search_path"] = "stripe, public"
	return pgxpool.NewWithConfig(ctx, config)
}

// setPlan sets the organization's plan to that of the customer's current subscription, which need not be the changed one,
// and records the change. It locks the organization's row first, so that concurrent changes of two subscriptions see each
// other.
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

// planOf returns the price while the subscription entitles the customer, else "free".
func planOf(sub *subscriptions.Subscription) string {
	if sub.Status.Entitled() {
		return sub.PriceID
	}
	return "free"
}

// addPayment adds a payment to the organization's total, which must happen exactly once.
func addPayment(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
	if inv.Customer == nil {
		return nil
	}
	_, err := tx.Exec(ctx, `UPDATE organizations SET paid_cents = paid_cents + $1 WHERE stripe_customer_id = $2`, inv.AmountPaid, inv.Customer.ID)
	return err
}

// currentSubscription responds with the customer's current subscription.
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
