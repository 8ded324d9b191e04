package metrics

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/webhooks"
)

const (
	// readyTimeout bounds the check of a scrape, as /readyz does.
	readyTimeout = 3 * time.Second
	// readyAge is how long its result is cached, for all scrapers.
	readyAge = 5 * time.Second
)

// ReceiverCollector is a prometheus.Collector of one receiver. Register it once with a registry. It calls Receiver.Ready, for one scrape
// at a time and at most every five seconds.
type ReceiverCollector struct {
	receiver *webhooks.Receiver

	mu      sync.Mutex
	checked time.Time
	ready   bool
}

// NewReceiver returns the collector of a receiver.
func NewReceiver(r *webhooks.Receiver) *ReceiverCollector { return &ReceiverCollector{receiver: r} }

// isReady reports whether deliveries can take effect.
func (c *ReceiverCollector) isReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > readyAge {
		ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
		defer cancel()
		c.ready, c.checked = c.receiver.Ready(ctx) == nil, time.Now()
	}
	return c.ready
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("stripeonce_"+name, help, labels, nil)
}

var (
	deliveries = desc("deliveries_total", "Number of answered deliveries, by outcome and by the registered pattern that matches the event type (none: no pattern matches, or the delivery was refused).", "outcome", "pattern")
	lag        = desc("lag_seconds", "Time from the creation of an event at Stripe until it took effect, in seconds.")
	rejected   = desc("rejected_signatures_total", "Number of deliveries whose signature was rejected, by reason: missing, malformed, expired, empty_body, or mismatch (no signing secret matches).", "reason")
	fetches    = desc("fetches_total", "Number of requests to Stripe's API for events, by result: answered, missing (404), refused (401, 403), failed, or no_key (a thin event was ignored because there is no API key).", "result")
	seconds    = desc("delivery_duration_seconds", "Time from reading a delivery to its response, in seconds, by outcome.", "outcome")
	inFlight   = desc("deliveries_in_flight", "Number of deliveries in flight.")
	unrecorded = desc("unrecorded_failures_total", "Number of failed events whose failure record could not be written; only the log has them.")
	abandoned  = desc("abandoned_handlers_total", "Number of handlers that did not return in time and whose connection was closed.")
	missing    = desc("missing_objects_total", "Number of thin events that were ignored because their object does not exist at Stripe.")
	ready      = desc("ready", "Whether deliveries can take effect: 1 or 0. At 0, /readyz says why.")
	overloaded = desc("overloaded", "Whether deliveries are refused because they arrive faster than they are processed: 1 or 0.")

	secretMatches   = desc("secret_matches_total", "Number of verified deliveries, by the label of the first signing secret that matches.", "secret")
	secretLastMatch = desc("secret_last_match_timestamp_seconds", "Time at which a signing secret last verified a delivery, in Unix seconds; 0 if it has not since the start.", "secret")

	poolMax      = desc("pool_max_connections", "Maximum number of connections of the pool.")
	poolAcquired = desc("pool_acquired_connections", "Number of connections of the pool that are in use.")
	poolIdle     = desc("pool_idle_connections", "Number of idle connections of the pool.")
	poolAcquires = desc("pool_acquires_total", "Number of connections that were acquired from the pool.")
	poolWaits    = desc("pool_waits_total", "Number of acquires that waited because no connection was idle.")
	poolWaited   = desc("pool_wait_seconds_total", "Total time that acquires waited for a connection, in seconds.")
	poolCanceled = desc("pool_canceled_acquires_total", "Number of acquires that were canceled while they waited.")
)

// Describe sends every metric's description.
func (c *ReceiverCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		deliveries, seconds, lag, rejected, fetches, inFlight, unrecorded, abandoned, missing, ready, overloaded, secretMatches, secretLastMatch, poolMax, poolAcquired, poolIdle, poolAcquires, poolWaits, poolWaited, poolCanceled,
	} {
		ch <- d
	}
}

// Collect sends the receiver's current metrics.
func (c *ReceiverCollector) Collect(ch chan<- prometheus.Metric) {
	isReady := c.isReady()
	stats := c.receiver.Stats()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	for outcome, d := range stats.Deliveries {
		ch <- histogram(seconds, &d, outcome)
	}
	for pattern, counts := range stats.Patterns {
		for outcome, n := range counts {
			counter(deliveries, float64(n), outcome, cmp.Or(pattern, "none"))
		}
	}
	ch <- histogram(lag, &stats.Lag)
	for reason, n := range stats.Signatures.Rejected {
		counter(rejected, float64(n), reason)
	}
	for result, n := range map[string]uint64{
		"answered": stats.Fetches.Answered, "missing": stats.Fetches.Missing, "refused": stats.Fetches.Refused, "failed": stats.Fetches.Failed,
		"no_key": stats.Fetches.NoKey,
	} {
		counter(fetches, float64(n), result)
	}
	for _, secret := range stats.Secrets {
		counter(secretMatches, float64(secret.Matched), secret.Label)
		last := 0.0
		if !secret.LastMatch.IsZero() {
			last = float64(secret.LastMatch.UnixNano()) / 1e9
		}
		gauge(secretLastMatch, last, secret.Label)
	}
	gauge(inFlight, float64(stats.InFlight))
	counter(unrecorded, float64(stats.UnrecordedFailures))
	counter(abandoned, float64(stats.AbandonedHandlers))
	counter(missing, float64(stats.MissingObjects))
	gauge(ready, oneIf(isReady))
	gauge(overloaded, oneIf(stats.Overloaded))
	gauge(poolMax, float64(stats.Pool.MaxConns()))
	gauge(poolAcquired, float64(stats.Pool.AcquiredConns()))
	gauge(poolIdle, float64(stats.Pool.IdleConns()))
	counter(poolAcquires, float64(stats.Pool.AcquireCount()))
	counter(poolWaits, float64(stats.Pool.EmptyAcquireCount()))
	counter(poolWaited, stats.Pool.EmptyAcquireWaitTime().Seconds())
	counter(poolCanceled, float64(stats.Pool.CanceledAcquireCount()))
}

func oneIf(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}

// histogram returns a histogram in seconds.
func histogram(d *prometheus.Desc, h *webhooks.Durations, labels ...string) prometheus.Metric {
	buckets := map[float64]uint64{}
	for i, bound := range h.Bounds {
		buckets[bound.Seconds()] = h.Buckets[i]
	}
	return prometheus.MustNewConstHistogram(d, h.Count, h.Sum.Seconds(), buckets, labels...)
}
