package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/operations"
)

// ReconcileCollector is a prometheus.Collector of an operator's ReconcileEvery.
type ReconcileCollector struct{ operator *operations.Operator }

// NewReconcile returns the collector of an operator, whose ReconcileEvery runs in this process.
func NewReconcile(o *operations.Operator) *ReconcileCollector { return &ReconcileCollector{o} }

var (
	reconcileRuns    = desc("reconcile_runs_total", "Number of reconciliations, by result: completed, failed, or skipped because another process was reconciling.", "result")
	reconcileMissing = desc("reconcile_missing_events_total", "Number of events that exist at Stripe and were missing in the ledger.")
	reconcileEvents  = desc("reconcile_events_total", "Number of missing events, by result: applied or failed.", "result")
	reconcileLast    = desc("reconcile_last_completed_timestamp_seconds", "Time at which a reconciliation last completed, in Unix seconds; 0 before the first.")
)

// Describe sends every metric's description.
func (c *ReconcileCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{reconcileRuns, reconcileMissing, reconcileEvents, reconcileLast} {
		ch <- d
	}
}

// Collect sends the operator's current metrics.
func (c *ReconcileCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.operator.ReconcileStats()
	collectRuns(ch, reconcileRuns, reconcileLast, stats.RunStats)
	counter(ch, reconcileMissing, stats.Missing)
	counter(ch, reconcileEvents, stats.Applied, "applied")
	counter(ch, reconcileEvents, stats.FailedEvents, "failed")
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, value uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

// collectRuns sends the metrics of what is done at each interval.
func collectRuns(ch chan<- prometheus.Metric, runs, last *prometheus.Desc, stats operations.RunStats) {
	counter(ch, runs, stats.Runs, "completed")
	counter(ch, runs, stats.Failed, "failed")
	counter(ch, runs, stats.Skipped, "skipped")
	at := 0.0
	if !stats.LastCompleted.IsZero() {
		at = float64(stats.LastCompleted.Unix())
	}
	ch <- prometheus.MustNewConstMetric(last, prometheus.GaugeValue, at)
}
