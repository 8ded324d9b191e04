package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/operations"
)

// VerifyCollector is a prometheus.Collector of an operator's VerifyEvery.
type VerifyCollector struct{ operator *operations.Operator }

// NewVerify returns the collector of an operator, whose VerifyEvery runs in this process.
func NewVerify(o *operations.Operator) *VerifyCollector { return &VerifyCollector{o} }

var (
	verifyRuns    = desc("verify_runs_total", "Number of comparisons of rows with Stripe, by result: completed, failed, or skipped because another process was comparing.", "result")
	verifyChecked = desc("verify_checked_objects_total", "Number of objects that were compared with Stripe.")
	verifyDrifted = desc("verify_drifted_objects_total", "Number of objects that differed from Stripe, or existed on one side only.")
	verifyFixed   = desc("verify_fixed_objects_total", "Number of objects that differed and were fixed.")
	verifyLast    = desc("verify_last_completed_timestamp_seconds", "Time at which a comparison last completed, in Unix seconds; 0 before the first.")
)

// Describe sends every metric's description.
func (c *VerifyCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{verifyRuns, verifyChecked, verifyDrifted, verifyFixed, verifyLast} {
		ch <- d
	}
}

// Collect sends the operator's current metrics.
func (c *VerifyCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.operator.VerifyStats()
	collectRuns(ch, verifyRuns, verifyLast, stats.RunStats)
	counter(ch, verifyChecked, stats.Checked)
	counter(ch, verifyDrifted, stats.Drifted)
	counter(ch, verifyFixed, stats.Fixed)
}
