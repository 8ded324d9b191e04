package webhooks

import (
	"errors"
	"fmt"
	"time"

	"github.com/pook/stripeonce/internal/pgpipe"
)

// eventsKept is how long Stripe has an event: https://docs.stripe.com/api/events.
const eventsKept = 30 * 24 * time.Hour

// parkError is what Park returns.
type parkError struct{ err error }

func (e *parkError) Error() string { return "parked: " + e.err.Error() }
func (e *parkError) Unwrap() error { return e.err }

// Park returns the error that a handler returns if no retry will help and a person must look: an invoice of an unknown customer, an
// amount that cannot be right. Everything that the event's handlers did is rolled back. The event is recorded as [OutcomeParked],
// together with err in the table stripe_webhook_failures, and answered 200, so that Stripe does not send it again. Projections still
// take effect, with subscriptions.Config.OnChange; if OnChange parks, nothing does.
//
// A parked event waits for a person. A delivery of it is a duplicate, and runs nothing; [Receiver.Replay] ("stripeonce
// replay EVENT") applies it, with all of its handlers.
//
// With a nil err, the record has a general text.
func Park(err error) error {
	if err == nil {
		err = errors.New("the handler gave no reason")
	}
	return &parkError{err}
}

// park stores the parking error for the next attempt to record, and reports whether it did. It returns false for any other
// error, where there is no event to park, and if the handler ended the transaction: its effects are committed, so the event
// fails.
func (d *delivery) park(err error) bool {
	var by *parkedByError
	var parked *parkError
	ended := errors.Is(err, pgpipe.ErrRawCommit) || errors.Is(err, pgpipe.ErrChained) || errors.Is(err, ErrTxControl)
	if d.inTx || d.reprocess != nil || ended || !errors.As(err, &parked) || !errors.As(err, &by) || d.projectionParked {
		return false
	}
	d.parked, d.projectionParked = err, by.projection
	return true
}

// parkedByError says which kind of handler parked the event.
type parkedByError struct {
	error
	projection bool
}

func (e *parkedByError) Unwrap() error { return e.error }

// parkedText is the error's text in the record of a parked event: also until when Stripe has the event, where its
// payload is not kept.
func parkedText(d *delivery, text string, kept bool) string {
	if kept {
		return text
	}
	from := d.received.Created
	if from.IsZero() {
		from = time.Now()
	}
	return fmt.Sprintf("%s (no payload is kept: replay it before %s, as long as Stripe has the event)", text, from.Add(eventsKept).UTC().Format(time.DateOnly))
}
