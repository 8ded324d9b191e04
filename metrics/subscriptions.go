package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/subscriptions"
)

// SubscriptionsCollector is a prometheus.Collector of one projection. Register it once with a registry.
type SubscriptionsCollector struct{ projection *subscriptions.Projection }

// NewSubscriptions returns the collector of a projection.
func NewSubscriptions(p *subscriptions.Projection) *SubscriptionsCollector {
	return &SubscriptionsCollector{p}
}

var settled = prometheus.NewDesc("stripeonce_order_settled_total",
	"Times that events of one second were put in order, by what told: chain (their previous attributes), asked (Stripe), "+
		"rule (the same in every order, and possibly wrong).", []string{"by"}, nil)

var incomplete = prometheus.NewDesc("stripeonce_incomplete_items_total",
	"Events, and answers of an import, that were stored with a part of the subscription's items: Stripe's list goes on (has_more).", nil, nil)

// Describe sends the metrics' descriptions.
func (c *SubscriptionsCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- settled
	ch <- incomplete
}

// Collect sends the figures of now.
func (c *SubscriptionsCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.projection.Stats()
	for by, n := range map[string]uint64{"chain": stats.Chain, "refetch": stats.Refetched, "tie_break": stats.TieBreak} {
		ch <- prometheus.MustNewConstMetric(settled, prometheus.CounterValue, float64(n), by)
	}
	ch <- prometheus.MustNewConstMetric(incomplete, prometheus.CounterValue, float64(stats.Incomplete))
}
