package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/subscriptions"
)

// SubscriptionsCollector is a prometheus.Collector of one projection. Register it once with a registry.
type SubscriptionsCollector struct{ projection *subscriptions.Projection }

// NewSubscriptions returns the collector of a projection of subscriptions.Register.
func NewSubscriptions(p *subscriptions.Projection) *SubscriptionsCollector {
	return &SubscriptionsCollector{p}
}

var settled = prometheus.NewDesc("stripeonce_order_settled_total",
	"Number of times that events of a subscription with the same second were ordered, by method: chain (their previous attributes), refetch (from Stripe), "+
		"tie_break (the same for every order of arrival, but possibly wrong).", []string{"by"}, nil)

var incomplete = prometheus.NewDesc("stripeonce_incomplete_items_total",
	"Number of events and imports that were stored with a truncated list of the subscription's items (has_more).", nil, nil)

// Describe sends the metrics' descriptions.
func (c *SubscriptionsCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- settled
	ch <- incomplete
}

// Collect sends the current metrics.
func (c *SubscriptionsCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.projection.Stats()
	for by, n := range map[string]uint64{"chain": stats.Chain, "refetch": stats.Refetched, "tie_break": stats.TieBreak} {
		ch <- prometheus.MustNewConstMetric(settled, prometheus.CounterValue, float64(n), by)
	}
	ch <- prometheus.MustNewConstMetric(incomplete, prometheus.CounterValue, float64(stats.Incomplete))
}
