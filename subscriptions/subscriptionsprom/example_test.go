package subscriptionsprom_test

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/subscriptions/subscriptionsprom"
	"github.com/pook/stripeonce/webhooks"
)

func Example() {
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, nil)
	prometheus.MustRegister(subscriptionsprom.New(projection))
}
