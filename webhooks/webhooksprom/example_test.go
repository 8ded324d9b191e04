package webhooksprom_test

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/subscriptions/subscriptionsprom"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhooksprom"
)

// All of an application's metrics of stripeonce, but for those of reconciliation.
func Example() {
	var (
		pool       *pgxpool.Pool
		r          *webhooks.Receiver        // from webhooks.New
		projection *subscriptions.Projection // from subscriptions.Register
	)
	prometheus.MustRegister(webhooksprom.New(r), webhooksprom.NewLedger(pool), subscriptionsprom.New(projection))
}
