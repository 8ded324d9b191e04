// Package subscriptionsprom offers a projection's figures to Prometheus. It is apart from subscriptions
// so that a projection does not import the Prometheus client.
package subscriptionsprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/subscriptions"
)

// Collector is a prometheus.Collector of one projection. Register it once with a registry.
type Collector struct{ projection *subscriptions.Projection }

// New returns the collector of a projection.
func New(p *subscriptions.Projection) *Collector { return &Collector{p} }

var settled = prometheus.NewDesc("stripeonce_order_settled_total",
	"Times that events of one second were put in order, by what told: chain (their previous attributes), asked (Stripe), "+
		"rule (the same in every order, and possibly wrong).", []string{"by"}, nil)

// Describe sends the metric's description.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) { ch <- settled }

// Collect sends the figures of now.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	stats := c.projection.Stats()
	for by, n := range map[string]uint64{"chain": stats.Chain, "asked": stats.Asked, "rule": stats.Rule} {
		ch <- prometheus.MustNewConstMetric(settled, prometheus.CounterValue, float64(n), by)
	}
}
