// Command production is an application as it runs in production: readiness, metrics, reconciliation, retries, and a shutdown that finishes
// the deliveries in flight.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stripe/stripe-go/v85"

	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/echov5"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends.
func run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx) // which also ends if Echo cannot start
	defer cancel()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, nil)
	webhooks.On(h, "invoice.paid", recordPayment, webhooks.Name("payments"))
	key := os.Getenv("STRIPE_API_KEY")
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: webhooks.SplitSecrets(os.Getenv("STRIPE_WEBHOOK_SECRET")), APIKey: key})
	if err != nil {
		return err
	}
	operator := operations.New(pool, &operations.Config{Applier: r, APIKey: key})

	var background sync.WaitGroup
	background.Go(func() { report(operator.RetryFailed(ctx, operations.RetryOptions{})) })
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewReceiver(r), metrics.NewLedger(pool), metrics.NewSubscriptions(projection),
		metrics.NewRetry(operator), metrics.NewBuild())
	if key != "" {
		background.Go(func() { report(operator.ReconcileEvery(ctx, time.Hour)) })
		registry.MustRegister(metrics.NewReconcile(operator)) // without a run, its alert would fire
	}

	e := echo.New()
	echov5.Mount(e, "/webhooks/stripe", r)
	e.GET("/readyz", func(c *echo.Context) error {
		if err := r.Ready(c.Request().Context()); err != nil {
			return c.String(http.StatusServiceUnavailable, err.Error())
		}
		return c.String(http.StatusOK, "ready")
	})
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})))

	err = echo.StartConfig{Address: ":" + os.Getenv("PORT"), BeforeServeFunc: limit}.Start(ctx, e) // until ctx ends
	cancel()
	deadline, end := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer end()
	err = errors.Join(err, r.Shutdown(deadline)) // the deliveries in flight; the pool is closed last
	background.Wait()
	return err
}

// limit sets the timeouts that Go's server does not have by default.
func limit(s *http.Server) error {
	s.ReadHeaderTimeout, s.ReadTimeout, s.MaxHeaderBytes = 5*time.Second, 15*time.Second, 64<<10
	return nil
}

func report(err error) {
	if err != nil {
		log.Print(err)
	}
}

func recordPayment(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, inv *stripe.Invoice) error {
	_, err := tx.Exec(ctx, `INSERT INTO payments (invoice, cents) VALUES ($1, $2)`, inv.ID, inv.AmountPaid)
	return err
}
