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
	deliveries = desc("deliveries_total", "Deliveries answered, by outcome and by the registered pattern that matches the event's type (none: no pattern does, or the delivery was refused).", "outcome", "pattern")
	lag        = desc("lag_seconds", "Time from Stripe's creation of an event to its effect.")
	rejected   = desc("rejected_signatures_total", "Deliveries whose signature was rejected, by reason: missing, malformed, expired, empty_body, or mismatch (no signing secret made it).", "reason")
	fetches    = desc("fetches_total", "Requests to Stripe's API on behalf of events, by result: answered, missing, refused (401, 403), failed, or no_key (a thin event was ignored for want of an API key).", "result")
	seconds    = desc("delivery_duration_seconds", "Time from reading a delivery to its response, by outcome.", "outcome")
	inFlight   = desc("deliveries_in_flight", "Deliveries in flight.")
	unrecorded = desc("unrecorded_failures_total", "Failed events whose failure record could not be written: they are only in the log.")
	abandoned  = desc("abandoned_handlers_total", "Handlers that did not return when their time was up, and whose connection was closed.")
	missing    = desc("missing_objects_total", "Thin events that were ignored since Stripe did not have their object.")
	ready      = desc("ready", "1 if deliveries can take effect, else 0: /readyz says why.")
	overloaded = desc("overloaded", "1 while deliveries are refused since they arrive faster than they are processed, else 0.")

	secretMatches   = desc("secret_matches_total", "Deliveries by the label of the first signing secret that verified them.", "secret")
	secretLastMatch = desc("secret_last_match_timestamp_seconds", "When a signing secret last verified a delivery; 0: never since the start.", "secret")

	poolMax      = desc("pool_max_connections", "The maximum size of the pool.")
	poolAcquired = desc("pool_acquired_connections", "The pool's connections in use.")
	poolIdle     = desc("pool_idle_connections", "The pool's connections that are idle.")
	poolAcquires = desc("pool_acquires_total", "Connections taken from the pool.")
	poolWaits    = desc("pool_waits_total", "Acquires that waited for a connection because none was idle.")
	poolWaited   = desc("pool_wait_seconds_total", "Time spent waiting for connections.")
	poolCanceled = desc("pool_canceled_acquires_total", "Waits for a connection that were given up.")
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
