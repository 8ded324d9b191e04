// Package otelwebhooks traces deliveries with OpenTelemetry: a span for each event, its handlers, its batch and its requests to Stripe.
//
//	receiver, err := webhooks.New(pool, h, &webhooks.Config{
//		Secrets: []string{secret},
//		Tracer:  otelwebhooks.NewTracer(nil), // with the global TracerProvider
//	})
//
// # Spans
//
// Each event has a span, which is a child of the span in the request's context, if the application has one (otelecho, otelhttp), or of
// the one in the context of Apply, Replay or Reprocess:
//
//	stripe invoice.paid      the event, from its arrival to its response
//	  fetch from Stripe      each fetch of an object or an event
//	  handler credit         each handler, and each OnChange of a projection, by its name (webhooks.Name)
//	    INSERT …             the handler's statements, if the pool has a tracer such as otelpgx's
//	  batch                  the transaction that several events share
//	    COMMIT               COMMIT, with the writes that are sent with it
//
// A handler's context has its span, so that everything that is traced with that context is a child of it. A delivery that is rejected,
// since its signature does not match for example, has a span named "stripe delivery". An import (Verify with Fix) has none.
//
// The span of a batch is a child of its first event's span. The spans of the batch's other events have a link to it, and it to them.
//
// # Attributes
//
//	stripe.event.id, stripe.event.type, stripe.account    of an event, and of its handlers and fetches
//	stripeonce.outcome                                    processed, duplicate, ignored, stale or parked
//	stripeonce.attempt                                    how often the event has been tried, where that is known: once it has failed
//	stripeonce.replay, stripeonce.reprocess               true if an operator applies the event
//	stripeonce.handler, stripeonce.pattern                of a handler
//	http.response.status_code                             of the response to Stripe; of a fetch that failed, of Stripe's response
//	messaging.batch.message_count                         of a batch
//	url.full, server.address, http.request.method         of a fetch
//	db.system.name, db.operation.name                     of COMMIT
//	error.type                                            of a failure: the response's status, PostgreSQL's SQLSTATE, "panic", "timeout" or "_OTHER"
//
// A failed step has the status Error with the error's text, which may have what your handlers put into their errors, but never the
// payload or a secret. That of an event that a handler has parked is the handler's error.
//
// # Failed attempts
//
// The record of a failure (stripe_webhook_failures) has the trace of the failed attempt, if it is sampled. The span of a replay, and of
// a retry by operations.RetryFailed, has a link to the span of the attempt that failed last. Stripe's own retries have no link, since a
// delivery does not read the record: that would cost each of them a query.
package otelwebhooks

import (
	"context"
	"errors"
	"net/url"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/pook/stripeonce/internal/buildinfo"
	"github.com/pook/stripeonce/webhooks"
)

// ScopeName is the name of the instrumentation scope of the spans.
const ScopeName = "github.com/pook/stripeonce/webhooks/otelwebhooks"

// The attributes for which there is no semantic convention.
const (
	keyEventID   = attribute.Key("stripe.event.id")
	keyEventType = attribute.Key("stripe.event.type")
	keyAccount   = attribute.Key("stripe.account")
	keyOutcome   = attribute.Key("stripeonce.outcome")
	keyAttempt   = attribute.Key("stripeonce.attempt")
	keyReplay    = attribute.Key("stripeonce.replay")
	keyReprocess = attribute.Key("stripeonce.reprocess")
	keyHandler   = attribute.Key("stripeonce.handler")
	keyPattern   = attribute.Key("stripeonce.pattern")
)

// Config configures a Tracer. The zero value is fine.
type Config struct {
	// TracerProvider creates the spans. Defaults to the global one, otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
	// Attributes are added to each span. Optional.
	Attributes []attribute.KeyValue
}

// Tracer is a webhooks.Tracer that records spans. Create it with NewTracer.
type Tracer struct {
	tracer     trace.Tracer
	attributes []attribute.KeyValue
}

var _ webhooks.Tracer = (*Tracer)(nil)

// NewTracer returns a Tracer for webhooks.Config.Tracer. config may be nil.
func NewTracer(config *Config) *Tracer {
	if config == nil {
		config = &Config{}
	}
	provider := config.TracerProvider
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	version := trace.WithInstrumentationVersion(buildinfo.Read().Version)
	return &Tracer{provider.Tracer(ScopeName, version, trace.WithSchemaURL(semconv.SchemaURL)), config.Attributes}
}

// TraceStart starts the span of a step.
func (t *Tracer) TraceStart(ctx context.Context, start webhooks.TraceStart) context.Context {
	name, options := describe(&start)
	if !start.At.IsZero() {
		options = append(options, trace.WithTimestamp(start.At))
	}
	ctx, span := t.tracer.Start(ctx, name, append(options, trace.WithAttributes(t.attributes...))...)
	if start.Step == webhooks.StepBatch {
		for _, delivery := range others(&start) {
			trace.SpanFromContext(delivery).AddLink(trace.Link{SpanContext: span.SpanContext()})
		}
	}
	return ctx
}

// describe returns the name of a step's span, and its options.
func describe(start *webhooks.TraceStart) (name string, options []trace.SpanStartOption) {
	kind, attributes := trace.SpanKindInternal, eventAttributes(start)
	var links []trace.Link
	switch start.Step {
	case webhooks.StepDelivery:
		kind, name = trace.SpanKindConsumer, "stripe delivery"
		if start.Event != nil && start.Event.Type != "" {
			name = "stripe " + start.Event.Type
		}
		attributes = append(attributes, deliveryAttributes(start)...)
		if link, ok := linkTo(start.Previous); ok {
			links = append(links, link)
		}
	case webhooks.StepHandler:
		name = "handler " + start.Handler
		attributes = append(attributes, keyHandler.String(start.Handler), keyPattern.String(start.Pattern))
	case webhooks.StepFetch:
		kind, name = trace.SpanKindClient, "fetch from Stripe"
		attributes = append(attributes, semconv.HTTPRequestMethodGet, semconv.URLFull(start.URL))
		if at, err := url.Parse(start.URL); err == nil {
			attributes = append(attributes, semconv.ServerAddress(at.Hostname()))
		}
	case webhooks.StepBatch:
		name = "batch"
		attributes = append(attributes, semconv.MessagingBatchMessageCount(len(start.Deliveries)))
		for _, delivery := range others(start) {
			links = append(links, trace.LinkFromContext(delivery))
		}
	case webhooks.StepCommit:
		kind, name = trace.SpanKindClient, "COMMIT"
		attributes = append(attributes, semconv.DBSystemNamePostgreSQL, semconv.DBOperationName("COMMIT"))
	default:
		name = string(start.Step)
	}
	return name, []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attributes...), trace.WithLinks(links...)}
}

func eventAttributes(start *webhooks.TraceStart) []attribute.KeyValue {
	if start.Event == nil {
		return nil
	}
	attributes := []attribute.KeyValue{keyEventType.String(start.Event.Type)}
	if start.Event.ID != "" {
		attributes = append(attributes, keyEventID.String(start.Event.ID))
	}
	if start.Account != "" {
		attributes = append(attributes, keyAccount.String(start.Account))
	}
	return attributes
}

func deliveryAttributes(start *webhooks.TraceStart) (attributes []attribute.KeyValue) {
	if start.Replay {
		attributes = append(attributes, keyReplay.Bool(true))
	}
	if start.Reprocess {
		attributes = append(attributes, keyReprocess.Bool(true))
	}
	if start.Attempt > 0 {
		attributes = append(attributes, keyAttempt.Int(start.Attempt))
	}
	return attributes
}

// others returns the contexts of a batch's deliveries but for the first, whose child the batch's span is.
func others(start *webhooks.TraceStart) []context.Context {
	if len(start.Deliveries) < 2 {
		return nil
	}
	return start.Deliveries[1:]
}

// linkTo returns a link to the span of an earlier attempt.
func linkTo(previous webhooks.TraceContext) (link trace.Link, ok bool) {
	traceID, err := trace.TraceIDFromHex(previous.TraceID)
	if err != nil {
		return link, false
	}
	spanID, err := trace.SpanIDFromHex(previous.SpanID)
	if err != nil {
		return link, false
	}
	to := trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled, Remote: true}
	return trace.Link{SpanContext: trace.NewSpanContext(to)}, true
}

// TraceEnd ends the span of a step.
func (t *Tracer) TraceEnd(ctx context.Context, end webhooks.TraceEnd) {
	span := trace.SpanFromContext(ctx)
	defer span.End()
	if !span.IsRecording() {
		return
	}
	if end.Outcome != "" {
		span.SetAttributes(keyOutcome.String(string(end.Outcome)))
	}
	if end.Status > 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(end.Status))
	}
	if end.Attempt > 0 {
		span.SetAttributes(keyAttempt.Int(end.Attempt))
	}
	if end.Err == nil {
		return
	}
	span.SetStatus(codes.Error, end.ErrText)
	span.SetAttributes(errorType(&end))
	if panicked := (*webhooks.PanicError)(nil); errors.As(end.Err, &panicked) && end.Step == webhooks.StepHandler {
		span.AddEvent(semconv.ExceptionEventName, trace.WithAttributes(
			semconv.ExceptionType("panic"), semconv.ExceptionMessage(end.ErrText), semconv.ExceptionStacktrace(string(panicked.Stack)),
		))
	}
}

// errorType returns the class of an error: a word of a small set.
func errorType(end *webhooks.TraceEnd) attribute.KeyValue {
	var refused *pgconn.PgError
	switch {
	case end.Status >= 400:
		return semconv.ErrorTypeKey.String(strconv.Itoa(end.Status))
	case errors.As(end.Err, new(*webhooks.PanicError)):
		return semconv.ErrorTypeKey.String("panic")
	case errors.As(end.Err, &refused):
		return semconv.ErrorTypeKey.String(refused.Code)
	case errors.Is(end.Err, context.DeadlineExceeded), errors.Is(end.Err, webhooks.ErrTimeout):
		return semconv.ErrorTypeKey.String("timeout")
	default:
		return semconv.ErrorTypeOther
	}
}

// TraceContext returns the ids of the span in ctx.
func (t *Tracer) TraceContext(ctx context.Context) webhooks.TraceContext {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return webhooks.TraceContext{}
	}
	return webhooks.TraceContext{TraceID: span.TraceID().String(), SpanID: span.SpanID().String(), Sampled: span.IsSampled()}
}
