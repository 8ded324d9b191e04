package webhooks

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/timeline"
)

// The labels of Stats.Deliveries beside the outcomes: why a delivery was refused.
const (
	labelInvalid     = "invalid"     // 4xx
	labelFailed      = "failed"      // 500
	labelUnavailable = "unavailable" // 503
)

var labels = []string{
	string(OutcomeProcessed), string(OutcomeStale), string(OutcomeIgnored), string(OutcomeParked), string(OutcomeDuplicate),
	labelInvalid, labelFailed, labelUnavailable,
}

// DurationBuckets are the upper bounds of the buckets in Durations, ascending.
var DurationBuckets = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Durations is a histogram of how long deliveries took.
type Durations struct {
	Count   uint64
	Sum     time.Duration
	Buckets [len(DurationBuckets)]uint64 // Buckets[i] took at most DurationBuckets[i]: cumulative
}

// Stats are a receiver's numbers since New. Package metrics exports them to Prometheus.
type Stats struct {
	// Deliveries has an entry for each outcome, and for "invalid" (4xx), "failed" (500) and
	// "unavailable" (503).
	Deliveries map[string]Durations
	// UnrecordedFailures counts the failed events whose record could not be written: they are in no listing.
	UnrecordedFailures uint64
	// AbandonedHandlers counts the handlers that did not return when their time was up, and whose connection was closed.
	AbandonedHandlers uint64
	// MissingObjects counts the thin events that were ignored since Stripe did not have their object.
	MissingObjects uint64
	// Overloaded is true while deliveries are refused since they arrive faster than they are processed. See
	// Config.TargetWait.
	Overloaded bool
	// InFlight is how many deliveries and calls of Apply are in progress.
	InFlight int
	// Secrets has an entry for each signing secret, in the order of Config.Secrets.
	Secrets []SecretStats
	// Pool is pgxpool's own account of its connections.
	Pool *pgxpool.Stat
}

// SecretStats say what one signing secret has verified since New.
type SecretStats struct {
	// Label is the secret's label, else its position in Config.Secrets, "1" for the first.
	Label string
	// Matched is how many deliveries it verified that no secret before it did.
	Matched uint64
	// LastMatch is when it last did. Zero if it never has.
	LastMatch time.Time
}

// Stats returns the receiver's numbers.
func (r *Receiver) Stats() Stats {
	stats := Stats{
		Deliveries: map[string]Durations{}, UnrecordedFailures: r.stats.unrecorded.Load(),
		AbandonedHandlers: r.stats.abandoned.Load(), Overloaded: r.shedder.Overloaded(),
		MissingObjects: r.stats.missingObjects.Load(),
		InFlight:       r.limiter.InFlight(), Pool: r.pool.Stat(),
	}
	for _, s := range r.verifier.Stats() {
		stats.Secrets = append(stats.Secrets, SecretStats(s))
	}
	for label, h := range r.stats.byLabel {
		stats.Deliveries[label] = h.read()
	}
	return stats
}

// Duplicates returns the number of duplicate deliveries since a time, per interval of the given width, keyed by the
// interval's start as time.Time.Truncate returns it. Empty intervals are absent. Duplicates leave nothing in PostgreSQL:
// they are counted in memory, since New, for at most 30 days, per minute.
func (r *Receiver) Duplicates(since time.Time, width time.Duration) map[time.Time]uint64 {
	return r.stats.duplicates.Read(since, width)
}

// recorder's map is never written after newRecorder.
type recorder struct {
	byLabel    map[string]*histogram
	duplicates *timeline.Timeline
	unrecorded atomic.Uint64 // failures
	abandoned  atomic.Uint64 // handlers

	missingObjects atomic.Uint64 // of thin events
}

func newRecorder() *recorder {
	r := &recorder{byLabel: map[string]*histogram{}, duplicates: &timeline.Timeline{}}
	for _, label := range labels {
		r.byLabel[label] = &histogram{}
	}
	return r
}

func (r *recorder) observe(label string, start time.Time, took time.Duration) {
	r.byLabel[label].observe(took)
	if label == string(OutcomeDuplicate) {
		r.duplicates.Add(start)
	}
}

// label is the entry of Stats.Deliveries that a reply counts in.
func label(status int, outcome Outcome) string {
	switch {
	case status == http.StatusOK:
		return string(outcome)
	case status == http.StatusServiceUnavailable:
		return labelUnavailable
	case status >= http.StatusInternalServerError:
		return labelFailed
	default:
		return labelInvalid
	}
}

// histogram counts each duration in its own bucket only; read adds them up.
type histogram struct {
	sum     atomic.Int64
	buckets [len(DurationBuckets) + 1]atomic.Uint64
}

func (h *histogram) observe(took time.Duration) {
	i := 0
	for i < len(DurationBuckets) && took > DurationBuckets[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(took))
}

func (h *histogram) read() Durations {
	d := Durations{Sum: time.Duration(h.sum.Load())}
	for i := range h.buckets {
		d.Count += h.buckets[i].Load()
		if i < len(d.Buckets) {
			d.Buckets[i] = d.Count
		}
	}
	return d
}
