package webhooks

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/lastattempt"
	"github.com/pook/stripeonce/internal/projection"
)

// Tracer traces the steps of each event: see [Config].Tracer. Package otelwebhooks has one for OpenTelemetry. Its methods are
// called concurrently, in the course of deliveries, and must neither block nor panic.
type Tracer interface {
	// TraceStart is called when a step begins. The context that it returns is passed to everything in the step, such as the handler,
	// and to TraceEnd.
	TraceStart(ctx context.Context, start TraceStart) context.Context
	// TraceEnd is called when a step has ended, once for each TraceStart. A handler that never returns never ends.
	TraceEnd(ctx context.Context, end TraceEnd)
	// TraceContext returns the ids of the span in ctx, whoever has started it: for the line in the log, and for a failure's record.
	// Ids of another form than W3C's are left out there.
	TraceContext(ctx context.Context) TraceContext
}

// TraceContext identifies a span. The zero value identifies none.
type TraceContext struct {
	TraceID string // 32 hexadecimal digits, in lower case
	SpanID  string // 16 hexadecimal digits, in lower case
	// Sampled reports whether the span is exported. Only then a failure's record has the ids.
	Sampled bool
}

// Step is a kind of step that a Tracer is called for.
type Step string

// The steps.
const (
	// StepDelivery is the work on one event, from its arrival to its response: of a delivery, also of one that is rejected, and of
	// Apply, Replay and Reprocess.
	StepDelivery Step = "delivery"
	// StepHandler is one call of a handler of the host's, or of a projection's OnChange, within a delivery.
	StepHandler Step = "handler"
	// StepFetch is one fetch of an object or an event from Stripe, within a delivery. It may take several requests.
	StepFetch Step = "fetch"
	// StepBatch is a transaction that several deliveries may share. It begins in the context of the first of them. Handlers are
	// steps of their own deliveries, and not of the batch.
	StepBatch Step = "batch"
	// StepCommit is COMMIT with the writes that travel with it, within a batch or a delivery.
	StepCommit Step = "commit"
)

// TraceStart describes a step that begins.
type TraceStart struct {
	Step Step
	// At is when it began. Zero: now.
	At time.Time
	// Event is the event of a delivery, a handler or a fetch. It must not be changed. Nil: the delivery was rejected.
	Event *Event
	// Account is the account of Event, also where the event names none (Config.AccountID). Empty: it is not known.
	Account string
	// Replay and Reprocess report why an event that the ledger has is applied all the same.
	Replay, Reprocess bool
	// Attempt is the number of the attempt at the event. 0: it is not known, since only the record of a failure counts attempts.
	Attempt int
	// Previous is the delivery whose failure was recorded last, for a replay of an event that failed. It is not known for Stripe's own
	// retries, for which the record is not read.
	Previous TraceContext
	// Handler is the handler's name, and Pattern the type or pattern that it is registered for.
	Handler, Pattern string
	// URL is what is fetched. The API key is not part of it.
	URL string
	// Deliveries are the contexts of a batch's deliveries, the first one's first.
	Deliveries []context.Context
}

// TraceEnd describes a step that has ended.
type TraceEnd struct {
	Step Step
	// Err is why it failed, and ErrText its text, at most MaxErrorLength bytes: Err's own Error method may panic. Of an event that a
	// handler has parked it is the handler's error.
	Err     error
	ErrText string
	// Outcome is that of a delivery. Empty: it has none.
	Outcome Outcome
	// Status is the response's status, of a delivery, and of a fetch that failed. 0: there was no response.
	Status int
	// Attempt is the number of the attempt, of a delivery that failed or parked. 0: it is not known.
	Attempt int
}

// traceStart begins a step.
func (r *Receiver) traceStart(ctx context.Context, start TraceStart) context.Context {
	if r.config.Tracer == nil {
		return ctx
	}
	return r.config.Tracer.TraceStart(ctx, start)
}

// traceEnd ends a step.
func (r *Receiver) traceEnd(ctx context.Context, end TraceEnd) {
	if r.config.Tracer == nil {
		return
	}
	if errors.As(end.Err, new(*fetchError)) { // a request, and no failure
		end.Err = nil
	}
	if end.Err != nil {
		end.ErrText = errorText(end.Err)
	}
	r.config.Tracer.TraceEnd(ctx, end)
}

// traceContext returns the ids of the span in ctx.
func (r *Receiver) traceContext(ctx context.Context) TraceContext {
	if r.config.Tracer == nil {
		return TraceContext{}
	}
	trace := r.config.Tracer.TraceContext(ctx)
	if !isLowerHex(trace.TraceID, 32) || !isLowerHex(trace.SpanID, 16) {
		return TraceContext{}
	}
	return trace
}

// isLowerHex reports whether a text is n hex digits.
func isLowerHex(text string, n int) bool {
	return len(text) == n && strings.Trim(text, "0123456789abcdef") == ""
}

// traceDelivery begins the step of an event; nil: the delivery is rejected.
func (r *Receiver) traceDelivery(ctx context.Context, at time.Time, ev *Event, why purpose) context.Context {
	if r.config.Tracer == nil {
		return ctx
	}
	start := TraceStart{Step: StepDelivery, At: at, Replay: why.replay && why.reprocess == nil, Reprocess: why.reprocess != nil}
	if ev != nil {
		event := *ev // not the caller's, which then need not be on the heap
		start.Event, start.Account = &event, or(ev.Account, r.config.AccountID)
	}
	if last := lastattempt.In(ctx); last.Number > 0 {
		start.Attempt = last.Number + 1
		start.Previous = TraceContext{TraceID: last.TraceID, SpanID: last.SpanID, Sampled: last.TraceID != ""}
	}
	return r.config.Tracer.TraceStart(ctx, start)
}

// endDelivery ends the step of an event. status is 0 without a response.
func (r *Receiver) endDelivery(ctx context.Context, done report, status int, err error) {
	if err == nil {
		err = done.parked
	}
	r.traceEnd(ctx, TraceEnd{Step: StepDelivery, Err: err, Outcome: done.Outcome, Status: status, Attempt: int(done.attempts)})
}

// traceHandler begins the step of a handler.
func (t *transaction) traceHandler(ctx context.Context, d *delivery, h handler) context.Context {
	if d.inTx {
		return ctx
	}
	return t.receiver.traceStart(ctx, TraceStart{
		Step: StepHandler, Event: d.effective, Account: d.effective.Account, Handler: h.name, Pattern: h.pattern,
	})
}

// endHandler ends the step of a handler.
func (t *transaction) endHandler(ctx context.Context, d *delivery, err error) {
	if !d.inTx {
		t.receiver.traceEnd(ctx, TraceEnd{Step: StepHandler, Err: err})
	}
}

// withHook returns a context in which a call of the projection's OnChange is a step.
func (t *transaction) withHook(ctx context.Context, d *delivery, h handler) context.Context {
	if t.receiver.config.Tracer == nil || h.honorsContext {
		return ctx
	}
	return projection.WithHook(ctx, func(ctx context.Context) (context.Context, func(error)) {
		ctx = t.traceHandler(ctx, d, h)
		return ctx, func(err error) { t.endHandler(ctx, d, err) }
	})
}

// traceFetch begins the step of a fetch.
func (r *Receiver) traceFetch(ctx context.Context, ev *Event, path string) context.Context {
	if r.config.Tracer == nil {
		return ctx
	}
	return r.traceStart(ctx, TraceStart{Step: StepFetch, Event: ev, Account: ev.Account, URL: r.stripe.URL(path)})
}

// traceBatch begins the step of a batch.
func (t *transaction) traceBatch(ctx context.Context) context.Context {
	if t.receiver.config.Tracer == nil || !t.batch {
		return ctx
	}
	start := TraceStart{Step: StepBatch}
	for _, d := range t.deliveries {
		start.Deliveries = append(start.Deliveries, d.ctx)
	}
	t.span = t.receiver.traceStart(ctx, start)
	return t.span
}

// endBatch ends the step of a batch, if it has one.
func (t *transaction) endBatch() {
	if t.span != nil {
		t.receiver.traceEnd(t.span, TraceEnd{Step: StepBatch, Err: t.err})
	}
}

// inBatch returns a context of some of the deliveries as one in the batch's step.
func (t *transaction) inBatch(ctx context.Context) context.Context {
	if t.span == nil {
		return ctx
	}
	return spanContext{ctx, t.span}
}

// traceCommit begins the step of COMMIT.
func (t *transaction) traceCommit(ctx context.Context) context.Context {
	if t.deliveries[0].inTx {
		return ctx
	}
	return t.receiver.traceStart(ctx, TraceStart{Step: StepCommit})
}

// endCommit ends the step of COMMIT.
func (t *transaction) endCommit(ctx context.Context, err error) {
	if !t.deliveries[0].inTx {
		t.receiver.traceEnd(ctx, TraceEnd{Step: StepCommit, Err: err})
	}
}

// spanContext is a context with the values of another.
type spanContext struct {
	context.Context
	values context.Context
}

func (c spanContext) Value(key any) any { return c.values.Value(key) }
