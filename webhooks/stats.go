package webhooks

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/eventtypes"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/internal/stripeapi"
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

var (
	// durationBounds are the buckets of the time from reading a delivery to its response.
	durationBounds = []time.Duration{
		time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
		25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
		500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
	}
	// lagBounds are the buckets of the time from Stripe's creation of an event, which is in whole seconds, to its effect. Stripe
	// retries within minutes at first, and for three days.
	lagBounds = []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute,
		time.Hour, 6 * time.Hour, 24 * time.Hour, 72 * time.Hour,
	}
)

// Durations is a histogram of durations.
type Durations struct {
	Count   uint64
	Sum     time.Duration
	Bounds  []time.Duration // the upper bounds of the buckets, ascending
	Buckets []uint64        // Buckets[i] is how many durations were at most Bounds[i]: cumulative
}

// SignatureStats counts the deliveries whose signature was rejected.
type SignatureStats struct {
	// Rejected counts them by reason: "missing" (there is no Stripe-Signature header), "malformed", "expired" (its timestamp is
	// older than Config.Tolerance), "empty_body", and "mismatch" (no signing secret made it: the secret is wrong, or the body was
	// changed on its way).
	Rejected map[string]uint64
	// LastRejected is when one was last rejected, by reason. A reason that never occurred is absent.
	LastRejected map[string]time.Time
}

// FetchStats counts requests to Stripe's API on behalf of events.
type FetchStats struct {
	Answered uint64
	Missing  uint64 // Stripe does not have what was requested
	Refused  uint64 // the API key may not read it (401, 403)
	Failed   uint64 // another error, such as a timeout, 429 or 500
	// LastRefused is when a request was last refused. Zero if none was.
	LastRefused time.Time
	// NoKey counts the thin events that were ignored, although they have a handler, since there is no API key of their mode.
	NoKey uint64
}

// Stats has a receiver's numbers since New. Package metrics exports them to Prometheus.
type Stats struct {
	// Deliveries has an entry for each outcome, and for "invalid" (4xx), "failed" (500) and
	// "unavailable" (503): how long they took, from reading the delivery to its response.
	Deliveries map[string]Durations
	// Patterns counts deliveries by the registered pattern that matches the event's type, the most specific one, and then as
	// Deliveries. The pattern is empty where none matches, and where the delivery was refused before it was read.
	Patterns map[string]map[string]uint64
	// Lag is the time from Stripe's creation of an event to its effect, also of events given to Apply. Times by which Stripe's
	// clock is ahead count as 0.
	Lag Durations
	// Signatures counts the deliveries whose signature was rejected.
	Signatures SignatureStats
	// Fetches counts requests to Stripe's API on behalf of events.
	Fetches FetchStats
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
	// Secrets has an entry for each signing secret, in the order of Config.Secrets. With Config.AccountFor it has one for the secrets of all
	// accounts together, labeled "accounts".
	Secrets []SecretStats
	// Pool is pgxpool's own account of its connections.
	Pool *pgxpool.Stat
}

// SecretStats counts the deliveries that one signing secret verified since New. A secret that no longer matches can be removed.
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
		Deliveries: map[string]Durations{}, Patterns: map[string]map[string]uint64{}, Lag: r.stats.lag.read(),
		Signatures: r.stats.signatures.read(), Fetches: r.stats.fetches.read(), UnrecordedFailures: r.stats.unrecorded.Load(),
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
	for _, p := range r.stats.patterns {
		counts := map[string]uint64{}
		for i, label := range labels {
			counts[label] = p.counts[i].Load()
		}
		stats.Patterns[p.pattern] = counts
	}
	if r.config.AccountFor != nil {
		stats.Secrets = append(stats.Secrets, SecretStats{"accounts", r.stats.accountMatches.Load(), timeOf(r.stats.lastAccountMatch.Load())})
	}
	return stats
}

// Duplicates returns the number of duplicate deliveries since a time, per interval of the given width, keyed by the
// interval's start as time.Time.Truncate returns it. Empty intervals are absent. Duplicates leave nothing in PostgreSQL:
// they are counted in memory, since New, for at most 30 days, per minute.
func (r *Receiver) Duplicates(since time.Time, width time.Duration) map[time.Time]uint64 {
	return r.stats.duplicates.Read(since, width)
}

// recorder's map and slice are never written after newRecorder.
type recorder struct {
	byLabel    map[string]*histogram
	patterns   []*patternCounts // the most specific pattern first; the last one is "", which matches every type
	lag        *histogram
	signatures signatureCounts
	fetches    fetchCounts
	duplicates *timeline.Timeline
	unrecorded atomic.Uint64 // failures
	abandoned  atomic.Uint64 // handlers

	missingObjects atomic.Uint64 // of thin events

	accountMatches   atomic.Uint64 // deliveries that a secret of an account verified
	lastAccountMatch atomic.Int64  // in nanoseconds since 1970; 0: never
}

// verifiedAccount counts a delivery that a secret of an account verified. A replay says nothing of Stripe's secret.
func (r *recorder) verifiedAccount(replay bool) {
	if !replay {
		r.accountMatches.Add(1)
		r.lastAccountMatch.Store(time.Now().UnixNano())
	}
}

// patternCounts counts the deliveries of events that match a registered pattern.
type patternCounts struct {
	pattern string
	counts  [8]atomic.Uint64 // as labels
}

// newRecorder returns the recorder of a receiver with handlers for these patterns.
func newRecorder(patterns []string) *recorder {
	r := &recorder{byLabel: map[string]*histogram{}, lag: newHistogram(lagBounds), duplicates: &timeline.Timeline{}}
	for _, label := range labels {
		r.byLabel[label] = newHistogram(durationBounds)
	}
	bySpecificity := slices.Clone(patterns)
	// Of two patterns that match one type, the longer is the more specific: "invoice.paid", "invoice.*", "*".
	slices.SortFunc(bySpecificity, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, pattern := range append(bySpecificity, "") {
		r.patterns = append(r.patterns, &patternCounts{pattern: pattern})
	}
	return r
}

// observe counts a delivery. Its event is nil where it was refused before it was read.
func (r *recorder) observe(ev *Event, label string, start time.Time, took time.Duration) {
	r.byLabel[label].observe(took)
	r.patternOf(ev).counts[slices.Index(labels, label)].Add(1)
	if label == string(OutcomeDuplicate) {
		r.duplicates.Add(start)
	}
}

// patternOf returns the counts of the most specific pattern that matches an event's type.
func (r *recorder) patternOf(ev *Event) *patternCounts {
	last := r.patterns[len(r.patterns)-1]
	if ev == nil {
		return last
	}
	for _, p := range r.patterns {
		if eventtypes.PatternMatches(p.pattern, ev.Type) || ev.thin && eventtypes.PatternMatches(p.pattern, strings.TrimPrefix(ev.Type, thinPrefix)) {
			return p
		}
	}
	return last
}

// tookEffect counts the lag of an event that took effect.
func (r *recorder) tookEffect(created time.Time, outcome Outcome) {
	if !created.IsZero() && (outcome == OutcomeProcessed || outcome == OutcomeStale) {
		r.lag.observe(max(0, time.Since(created)))
	}
}

// signatureCounts count rejected signatures by reason.
type signatureCounts struct {
	byReason [5]atomic.Uint64 // as signing.Reasons
	last     [5]atomic.Int64  // in nanoseconds since 1970; 0: never
}

// rejected counts an error of the verification of a signature, if it is one.
func (c *signatureCounts) rejected(err error) {
	if err == nil { // of a genuine delivery, which is to allocate nothing here
		return
	}
	var rejected *signing.RejectedError
	if !errors.As(err, &rejected) {
		return
	}
	i := slices.Index(signing.Reasons(), rejected.Reason)
	c.byReason[i].Add(1)
	c.last[i].Store(time.Now().UnixNano())
}

func (c *signatureCounts) read() SignatureStats {
	stats := SignatureStats{Rejected: map[string]uint64{}, LastRejected: map[string]time.Time{}}
	for i, reason := range signing.Reasons() {
		stats.Rejected[string(reason)] = c.byReason[i].Load()
		if last := c.last[i].Load(); last != 0 {
			stats.LastRejected[string(reason)] = timeOf(last)
		}
	}
	return stats
}

// fetchCounts count requests to Stripe by their result.
type fetchCounts struct {
	answered, missing, refused, failed, noKey atomic.Uint64
	lastRefused                               atomic.Int64 // in nanoseconds since 1970; 0: never
}

func (c *fetchCounts) observe(err error) {
	switch status := stripeapi.Status(err); {
	case err == nil, errors.Is(err, stripeapi.ErrTruncated): // of a list that is too long, a part was answered
		c.answered.Add(1)
	case stripeapi.IsMissing(err):
		c.missing.Add(1)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		c.refused.Add(1)
		c.lastRefused.Store(time.Now().UnixNano())
	default:
		c.failed.Add(1)
	}
}

func (c *fetchCounts) read() FetchStats {
	return FetchStats{
		Answered: c.answered.Load(), Missing: c.missing.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(), NoKey: c.noKey.Load(),
		LastRefused: timeOf(c.lastRefused.Load()),
	}
}

// timeOf returns a time in nanoseconds since 1970; zero for 0.
func timeOf(nanoseconds int64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
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
	bounds  []time.Duration
	sum     atomic.Int64
	buckets []atomic.Uint64 // one more than bounds
}

func newHistogram(bounds []time.Duration) *histogram {
	return &histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
}

func (h *histogram) observe(took time.Duration) {
	i := 0
	for i < len(h.bounds) && took > h.bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(took))
}

func (h *histogram) read() Durations {
	d := Durations{Sum: time.Duration(h.sum.Load()), Bounds: h.bounds, Buckets: make([]uint64, len(h.bounds))}
	for i := range h.buckets {
		d.Count += h.buckets[i].Load()
		if i < len(d.Buckets) {
			d.Buckets[i] = d.Count
		}
	}
	return d
}
