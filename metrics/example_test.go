package metrics_test

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// All of an application's stripeonce metrics, except those of reconciliation.
func Example() {
	var (
		pool       *pgxpool.Pool
		r          *webhooks.Receiver        // from webhooks.New
		projection *subscriptions.Projection // from subscriptions.Register
	)
	prometheus.MustRegister(metrics.NewReceiver(r), metrics.NewLedger(pool), metrics.NewSubscriptions(projection))
}
