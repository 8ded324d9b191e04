package metrics_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// All of an application's metrics of stripeonce, but for those of reconciliation.
func Example() {
	pool := pgtest.ExamplePool() // your own: pgxpool.New(ctx, databaseURL)
	defer pool.Close()
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, nil)
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{"whsec_of_an_example"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Ready(context.Background()); err != nil {
		log.Fatal(err)
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewReceiver(r), metrics.NewLedger(pool), metrics.NewSubscriptions(projection))

	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, family := range families {
		if name := family.GetName(); name == "stripeonce_failing_events" || name == "stripeonce_deliveries_in_flight" {
			fmt.Println(name, family.GetMetric()[0].GetGauge().GetValue())
		}
	}
	// Output:
	// stripeonce_deliveries_in_flight 0
	// stripeonce_failing_events 0
}
