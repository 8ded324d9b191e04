// Package lastattempt carries what a failure's record says of the last failed attempt from who has read the record, such as a
// replay, to the receiver, so that the trace of the next attempt has a link to that of the last.
package lastattempt

import "context"

// Attempt is a failed attempt.
type Attempt struct {
	// Number is how often the event has failed so far. 0: there is no record.
	Number int
	// TraceID and SpanID are of the attempt's delivery. Empty: it was not traced.
	TraceID, SpanID string
}

type key struct{}

// With returns a context that carries a failed attempt.
func With(ctx context.Context, last Attempt) context.Context {
	return context.WithValue(ctx, key{}, last)
}

// In returns the failed attempt that a context carries, or the zero value.
func In(ctx context.Context) Attempt {
	last, _ := ctx.Value(key{}).(Attempt)
	return last
}
