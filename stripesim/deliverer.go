package stripesim

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
)

// The defaults of a Deliverer.
const (
	DefaultConcurrency = 24
	DefaultRetryScale  = 20_000 // of RetrySchedule: ten attempts in twelve seconds, in place of three days
	DefaultTimeout     = 30 * time.Second
)

// Deliverer delivers events to an endpoint as Stripe does: signed, several at once, each again until the response is a 2xx.
type Deliverer struct {
	URL    string // of the endpoint
	Secret string // its signing secret
	// Concurrency is the number of deliveries in flight. Duplicates at the same instant count as one. A delivery that waits for its
	// next attempt is not in flight. Defaults to DefaultConcurrency.
	Concurrency int
	// Pauses are those after each attempt without a 2xx. After the last one, a delivery is given up. Defaults to
	// RetrySchedule(DefaultRetryScale).
	Pauses []time.Duration
	// Timeout is how long an attempt waits for the response. Without one it has failed. Defaults to DefaultTimeout.
	Timeout time.Duration
	// Rate is the maximum number of deliveries a second, without retries. 0: as fast as they are answered.
	Rate float64
	// StopAfter ends the deliveries with a NotReceivingError if so many attempts were made, and each failed as all do if the URL or
	// the secret is wrong: no connection, or the status 3xx, 400, 401, 403, 404 or 405. 0: deliveries go on.
	StopAfter int
	// API is the API that the endpoint fetches from. During Deliver, it is as of the newest event whose delivery has begun.
	// Optional. Simulation.Run does so with its API.
	API *API
	// Observe is called with each attempt, from several goroutines. Optional.
	Observe func(Attempt)

	results results
}

// check returns an error for settings with which no delivery can succeed.
func (d *Deliverer) check() error {
	u, err := url.Parse(d.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("stripesim: Deliverer.URL is not a URL such as http://127.0.0.1:3000/webhooks")
	case d.Secret == "":
		return errors.New("stripesim: Deliverer.Secret is empty: use the endpoint's signing secret")
	case d.Concurrency < 0:
		return fmt.Errorf("stripesim: Deliverer.Concurrency is %d: use at least 1, or 0 for the default", d.Concurrency)
	case d.Rate < 0 || math.IsNaN(d.Rate):
		return fmt.Errorf("stripesim: Deliverer.Rate is %v: use a number of deliveries a second, or 0", d.Rate)
	case d.Timeout < 0:
		return fmt.Errorf("stripesim: Deliverer.Timeout is %s: use a duration, or 0 for the default", d.Timeout)
	}
	return nil
}

// Attempt is one attempt of a delivery, and what was answered.
type Attempt struct {
	Event  *Event
	Form   Form
	Err    error // why there was no response
	Status int   // 0: no response
	Header http.Header
	Body   []byte // trimmed, and cut to 4 KiB
	// Took is the time until the response, or until there was none.
	Took time.Duration
	// Last reports that the delivery is not attempted again.
	Last bool

	reply delivery.Reply
}

// OK reports whether the response is a 2xx, the only one that Stripe does not retry.
func (a Attempt) OK() bool { return a.Err == nil && a.reply.OK() }

// Outcome returns the outcome in a response of stripeonce, such as "processed". It is empty for other receivers.
func (a Attempt) Outcome() string { return string(a.reply.Outcome()) }

// eventID returns the id in the body.
func (a Attempt) eventID() string {
	if a.Form == Snapshot {
		return a.Event.ID
	}
	return a.Event.ThinID()
}

// misdirected reports whether the attempt failed as all do if the URL or the secret is wrong.
func (a Attempt) misdirected() bool {
	var failed *net.OpError
	switch {
	case a.Err != nil:
		return errors.As(a.Err, &failed) && failed.Op == "dial"
	case a.Status/100 == 3:
		return true
	}
	switch a.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return false
}

// NotReceivingError reports that the first attempts, Attempts of them, all failed as they do if the URL or the secret is wrong.
type NotReceivingError struct {
	Attempts int
	Last     Attempt
}

func (e *NotReceivingError) Error() string {
	if e.Last.Err != nil {
		return fmt.Sprintf("none of the first %d attempts was answered: %v", e.Attempts, e.Last.Err)
	}
	return fmt.Sprintf("none of the first %d attempts was accepted: the last one was answered %s", e.Attempts, e.Last)
}

// String returns the status and the body of the response, or why there was none.
func (a Attempt) String() string {
	if a.Err != nil {
		return a.Err.Error()
	}
	return a.reply.String()
}

// RetrySchedule returns pauses that grow as Stripe's do, over some three days, scaled down. A scale that is not at least 1 counts as
// 1. Stripe publishes no numbers but the three days: https://docs.stripe.com/webhooks#retries.
func RetrySchedule(scale float64) (pauses []time.Duration) {
	if !(scale >= 1) { // NaN, too
		scale = 1
	}
	for _, pause := range []time.Duration{
		5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 12 * time.Hour, 12 * time.Hour, 12 * time.Hour, 12 * time.Hour,
	} {
		pauses = append(pauses, time.Duration(float64(pause)/scale))
	}
	return pauses
}

// Done returns the number of deliveries that were accepted or given up.
func (d *Deliverer) Done() int { return d.results.done() }
