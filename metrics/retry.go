package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/operations"
)

// RetryCollector is a prometheus.Collector of an operator's RetryFailed.
type RetryCollector struct{ operator *operations.Operator }

// NewRetry returns the collector of an operator, whose RetryFailed runs in this process.
func NewRetry(o *operations.Operator) *RetryCollector { return &RetryCollector{o} }

var (
	retryRuns   = desc("retry_runs_total", "Number of runs of the retrier, by result: completed, failed, or skipped because another process was retrying.", "result")
	retryLast   = desc("retry_last_completed_timestamp_seconds", "Time at which a run of the retrier last completed, in Unix seconds; 0 before the first.")
	retryEvents = desc("retried_events_total", "Number of retries of failing events, by result: applied, or failed again.", "result")
)

// Describe sends every metric's description.
func (c *RetryCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{retryRuns, retryLast, retryEvents} {
		ch <- d
	}
}

// Collect sends the operator's current metrics.
func (c *RetryCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.operator.RetryStats()
	collectRuns(ch, retryRuns, retryLast, stats.RunStats)
	counter(ch, retryEvents, stats.Applied, "applied")
	counter(ch, retryEvents, stats.FailedAgain, "failed")
}
