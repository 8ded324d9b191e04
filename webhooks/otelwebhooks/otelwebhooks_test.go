package otelwebhooks_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/spantest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/otelwebhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

type object struct {
	ID string `json:"id"`
}

// traced is a receiver whose spans are recorded.
type traced struct {
	*hooktest.Host
	*spantest.Recorder
}

func newTraced(t *testing.T, h *webhooks.Handlers, configure func(*webhooks.Config), options ...sdk.TracerProviderOption) *traced {
	t.Helper()
	recorder := spantest.New(options...)
	host := hooktest.New(t, h, func(c *webhooks.Config) {
		c.Tracer = otelwebhooks.NewTracer(&otelwebhooks.Config{TracerProvider: recorder.Provider, Attributes: []attribute.KeyValue{attribute.String("app", "test")}})
		if configure != nil {
			configure(c)
		}
	})
	return &traced{host, recorder}
}

func isChild(t *testing.T, child, parent *spantest.Span) {
	t.Helper()
	if !spantest.IsChild(child, parent) {
		t.Errorf("the span %q is not a child of %q", child.Name, parent.Name)
	}
}

func links(t *testing.T, from, to *spantest.Span) {
	t.Helper()
	if !spantest.Links(from, to) {
		t.Errorf("the span %q has no link to %q: its links are %v", from.Name, to.Name, from.Links)
	}
}

// A delivery is a child of the application's span, its handlers and COMMIT are children of the delivery, and a handler's context has
// the handler's span.
func TestDelivery(t *testing.T) {
	t.Parallel()
	var inHandler trace.SpanContext
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.*", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *object) error {
		inHandler = trace.SpanContextFromContext(ctx)
		_, err := tx.Exec(ctx, `SELECT 1`)
		return err
	}, webhooks.Name("credit"))
	host := newTraced(t, h, func(c *webhooks.Config) { c.AccountID = "acct_own" })
	ctx, app := host.Provider.Tracer("app").Start(context.Background(), "POST /webhooks/stripe")
	body := string(hooktest.Event("evt_1", "invoice.paid", 1_700_000_000, `{"id":"in_1","secret":"geheim"}`))
	for range 2 {
		req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(body))
		req.Header.Set(webhooks.SignatureHeader, webhookstest.Sign([]byte(body), hooktest.Secret))
		host.Receiver.ServeHTTP(httptest.NewRecorder(), req)
	}
	app.End()

	deliveries := host.Named(t, "stripe invoice.paid", 2)
	first, second, handler := deliveries[0], deliveries[1], host.One(t, "handler credit")
	parent, commit := host.One(t, "POST /webhooks/stripe"), host.One(t, "COMMIT")
	isChild(t, first, parent)
	isChild(t, handler, first)
	isChild(t, commit, first)
	if inHandler.SpanID() != handler.SpanContext.SpanID() {
		t.Error("the handler's context does not have the handler's span")
	}
	spantest.Has(t, first, "stripe.event.id=evt_1", "stripe.event.type=invoice.paid", "stripe.account=acct_own", "stripeonce.outcome=processed",
		"http.response.status_code=200", "app=test")
	spantest.Has(t, second, "stripe.event.id=evt_1", "stripeonce.outcome=duplicate")
	spantest.Has(t, handler, "stripeonce.handler=credit", "stripeonce.pattern=invoice.*", "stripe.event.id=evt_1", "stripe.event.type=invoice.paid", "app=test")
	spantest.Has(t, commit, "db.system.name=postgresql", "db.operation.name=COMMIT")
	if first.SpanKind != trace.SpanKindConsumer || commit.SpanKind != trace.SpanKindClient || handler.SpanKind != trace.SpanKindInternal {
		t.Errorf("the kinds are %s, %s and %s", first.SpanKind, commit.SpanKind, handler.SpanKind)
	}
	for _, span := range host.All() {
		spantest.Lacks(t, &span, "error.type")
		spantest.Lacks(t, &span, "stripeonce.attempt") // no record was read
		for _, a := range span.Attributes {
			if strings.Contains(a.Value.String(), "geheim") {
				t.Errorf("the span %q has the payload: %s", span.Name, a.Value.String())
			}
		}
	}
}

// A rejected delivery has a span that says why.
func TestRejected(t *testing.T) {
	t.Parallel()
	host := newTraced(t, webhooks.NewHandlers(), nil)
	response, err := http.Post(host.URL, "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	span := host.One(t, "stripe delivery")
	spantest.Has(t, span, "http.response.status_code=400", "error.type=400")
	if span.Status.Code != codes.Error || !strings.Contains(span.Status.Description, "signature") {
		t.Errorf("the status is %v", span.Status)
	}
	spantest.Lacks(t, span, "stripe.event.id")

	host.Expect(t, []byte(`{"type":""}`), 400, "")
	if span := host.Named(t, "stripe delivery", 2)[1]; !strings.Contains(span.Status.Description, "no id") {
		t.Errorf("the status is %v", span.Status)
	}
}

// Spans of failures have the error, and the record has the trace. A replay's span has a link to the attempt that failed last.
func TestFailureAndReplay(t *testing.T) {
	t.Parallel()
	result := errors.New("no such organization")
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *object) error { return result })
	var notice webhooks.Notice
	notified := make(chan struct{}, 2)
	host := newTraced(t, h, func(c *webhooks.Config) {
		c.OnFailure = func(_ context.Context, n webhooks.Notice) { notice = n; notified <- struct{}{} }
	})
	body := hooktest.Event("evt_1", "invoice.paid", 1_700_000_000, `{"id":"in_1"}`)
	host.Expect(t, body, 500, "")
	pgtest.Receive(t, "OnFailure", notified)
	first := host.One(t, "stripe invoice.paid")
	if notice.TraceID != first.SpanContext.TraceID().String() {
		t.Errorf("the notice has the trace %q, want %s", notice.TraceID, first.SpanContext.TraceID())
	}
	host.Expect(t, body, 500, "")
	failed := host.Named(t, "stripe invoice.paid", 2)[1]
	spantest.Has(t, failed, "http.response.status_code=500", "error.type=500", "stripeonce.attempt=2")
	handler := host.Named(t, "handler invoice.paid", 2)[1]
	spantest.Has(t, handler, "error.type=_OTHER")
	for _, span := range []*spantest.Span{failed, handler} {
		if span.Status.Code != codes.Error || !strings.HasSuffix(span.Status.Description, "no such organization") {
			t.Errorf("the status of %q is %v", span.Name, span.Status)
		}
	}

	result = nil
	o := operations.New(host.Pool, &operations.Config{Applier: host.Receiver})
	detail, err := o.EventDetail(context.Background(), "evt_1")
	if err != nil {
		t.Fatal(err)
	}
	record, id := detail.Failure, failed.SpanContext
	if record.TraceID == nil || *record.TraceID != id.TraceID().String() || len(record.History) != 2 ||
		record.History[0].TraceID != first.SpanContext.TraceID().String() || record.History[1].SpanID != id.SpanID().String() {
		t.Errorf("the record is %+v, want the traces %s and %s", record, first.SpanContext.TraceID(), id.TraceID())
	}
	if applied := o.Replay(context.Background(), "evt_1", ""); applied.Err != nil {
		t.Fatal(applied.Err)
	}
	replayed := host.Named(t, "stripe invoice.paid", 3)[2]
	links(t, replayed, failed)
	spantest.Has(t, replayed, "stripeonce.attempt=3", "stripeonce.outcome=processed")
	spantest.Lacks(t, replayed, "http.response.status_code")
}

// A trace that is not exported is not in the record, since nobody could look at it.
func TestNotSampled(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *object) error { return errors.New("it fails") })
	host := newTraced(t, h, nil, sdk.WithSampler(sdk.NeverSample()))
	host.Expect(t, hooktest.Event("evt_1", "invoice.paid", 1_700_000_000, `{"id":"in_1"}`), 500, "")
	host.Named(t, "stripe invoice.paid", 0)
	if !pgtest.Scan[bool](t, host.Pool, `SELECT trace_id IS NULL AND NOT history @? '$[*].trace_id' FROM stripe_webhook_failures`) {
		t.Error("the record has a trace that is not exported")
	}
}

// A parked event's spans have the handler's error, and so has an operator's replay of it.
func TestParked(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *object) error {
		return webhooks.Park(errors.New("the currency is not known"))
	})
	host := newTraced(t, h, nil)
	host.Expect(t, hooktest.Event("evt_1", "invoice.paid", 1_700_000_000, `{"id":"in_1"}`), 200, webhooks.OutcomeParked)
	span := host.One(t, "stripe invoice.paid")
	spantest.Has(t, span, "stripeonce.outcome=parked", "stripeonce.attempt=1", "http.response.status_code=200", "error.type=_OTHER")
	if span.Status.Code != codes.Error || !strings.Contains(span.Status.Description, "the currency is not known") {
		t.Errorf("the status is %v", span.Status)
	}
	if got := pgtest.Scan[string](t, host.Pool, `SELECT trace_id FROM stripe_webhook_failures`); got != span.SpanContext.TraceID().String() {
		t.Errorf("the record of the parked event has the trace %s, want %s", got, span.SpanContext.TraceID())
	}
	o := operations.New(host.Pool, &operations.Config{Applier: host.Receiver})
	if applied := o.Replay(context.Background(), "evt_1", ""); applied.Err == nil {
		t.Error("the replay of an event that is parked again reports no error")
	}
	again := host.Named(t, "stripe invoice.paid", 2)[1]
	links(t, again, span)
	spantest.Has(t, again, "stripeonce.replay=true", "stripeonce.attempt=2")
}

// A panic's span has its stack.
func TestPanic(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *object) error { panic("nil map") })
	host := newTraced(t, h, nil)
	host.Expect(t, hooktest.Event("evt_1", "invoice.paid", 1_700_000_000, `{"id":"in_1"}`), 500, "")
	span := host.One(t, "handler invoice.paid")
	spantest.Has(t, span, "error.type=panic")
	if len(span.Events) != 1 || span.Events[0].Name != "exception" {
		t.Fatalf("the events are %v", span.Events)
	}
	stack := ""
	for _, a := range span.Events[0].Attributes {
		if a.Key == "exception.stacktrace" {
			stack = a.Value.AsString()
		}
	}
	if !strings.Contains(stack, "TestPanic") {
		t.Errorf("the stack does not name the handler: %s", stack)
	}
}
