package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/mirror"
)

// MirrorCollector is a prometheus.Collector of the mirrored objects. Register it once with a registry.
type MirrorCollector struct{ projection *mirror.Projection }

// NewMirror returns the collector of a projection of mirror.Register or entitlements.Register.
func NewMirror(p *mirror.Projection) *MirrorCollector { return &MirrorCollector{p} }

var mirrorSettled = prometheus.NewDesc("stripeonce_mirror_order_settled_total",
	"Number of times that events of a mirrored object with the same second were ordered, by method: chain (their previous attributes), "+
		"refetch (from Stripe), tie_break (the same for every order of arrival, but possibly wrong).", []string{"by"}, nil)

var mirrorIncomplete = prometheus.NewDesc("stripeonce_mirror_incomplete_lists_total",
	"Number of events and imports that were stored with a part of one of the object's lists (has_more).", nil, nil)

// Describe sends the metrics' descriptions.
func (c *MirrorCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- mirrorSettled
	ch <- mirrorIncomplete
}

// Collect sends the current metrics.
func (c *MirrorCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.projection.Stats()
	for by, n := range map[string]uint64{"chain": stats.Chain, "refetch": stats.Refetched, "tie_break": stats.TieBreak} {
		ch <- prometheus.MustNewConstMetric(mirrorSettled, prometheus.CounterValue, float64(n), by)
	}
	ch <- prometheus.MustNewConstMetric(mirrorIncomplete, prometheus.CounterValue, float64(stats.Incomplete))
}
