package webhooks_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/spantest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/otelwebhooks"
)

// traces records the spans of the receivers that it configures.
func traces() (*spantest.Recorder, func(*webhooks.Config)) {
	recorder := spantest.New()
	return recorder, func(c *webhooks.Config) {
		c.Tracer = otelwebhooks.NewTracer(&otelwebhooks.Config{TracerProvider: recorder.Provider})
	}
}

// wantBatch checks that the last batch is the first delivery's child, that it and the other deliveries have links to each other, and
// that COMMIT is its child.
func wantBatch(t *testing.T, spans *spantest.Recorder, batches int, deliveries []*spantest.Span) {
	t.Helper()
	batch := spans.Named(t, "batch", batches)[batches-1]
	spantest.Has(t, batch, fmt.Sprintf("messaging.batch.message_count=%d", len(deliveries)))
	children, commits := 0, 0
	for _, d := range deliveries {
		switch {
		case spantest.IsChild(batch, d):
			children++
		case !spantest.Links(d, batch):
			t.Errorf("a delivery has no link to its batch: %v", d.Attributes)
		case !spantest.Links(batch, d):
			t.Errorf("the batch has no link to a delivery: %v", d.Attributes)
		}
	}
	for _, span := range spans.All() {
		if span.Name == "COMMIT" && spantest.IsChild(&span, batch) {
			commits++
		}
	}
	if children != 1 || commits != 1 {
		t.Errorf("the batch is the child of %d deliveries, and has %d COMMITs", children, commits)
	}
}

// In a batch, handlers are steps of their own deliveries.
func TestTraceOfABatchOfHandlers(t *testing.T) {
	t.Parallel()
	s := newSavepointHost(t, inBatch{})
	spans, configure := traces()
	s.restart(t, func(c *webhooks.Config) {
		c.ConcurrentBatches, c.Timeout, c.LockTimeout, c.AcquireTimeout = 1, pgtest.WaitLimit, pgtest.WaitLimit, pgtest.WaitLimit
		configure(c)
	})
	replies, _ := s.batch(t, noted("evt_1"), noted("evt_2"), noted("evt_3"))
	wantReplies(t, replies, webhooks.OutcomeProcessed)
	deliveries := spans.Named(t, "stripe noted.event", 3)
	wantBatch(t, spans, 1, deliveries) // the first event is alone, and needs no savepoint
	for _, handler := range spans.Named(t, "handler noted.event", 3) {
		for _, d := range deliveries {
			ofEvent := spantest.Value(handler, "stripe.event.id") == spantest.Value(d, "stripe.event.id")
			if spantest.IsChild(handler, d) != ofEvent {
				t.Errorf("the handler of %s is a child of the delivery of %s: %t", spantest.Value(handler, "stripe.event.id"), spantest.Value(d, "stripe.event.id"), !ofEvent)
			}
		}
	}
}

// An event without a handler of the host's is in a batch, also alone.
func TestTraceOfABatch(t *testing.T) {
	t.Parallel()
	spans, configure := traces()
	c := newBatchHost(t, configure)
	alone := spans.One(t, "stripe customer.subscription.updated")
	wantBatch(t, spans, 1, []*spantest.Span{alone})
	wantReplies(t, c.deliverBatch(t, several(3)...)(), webhooks.OutcomeProcessed)
	var together []*spantest.Span
	for _, d := range spans.Named(t, "stripe customer.subscription.updated", 5) {
		switch spantest.Value(d, "stripe.event.id") {
		case "evt_00", "evt_01", "evt_02":
			together = append(together, d)
		}
	}
	wantBatch(t, spans, 3, together)
}

// OnChange has a step, in the course of a delivery and when it is run again; an import has none.
func TestTraceOfOnChange(t *testing.T) {
	t.Parallel()
	spans, configure := traces()
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, _ subscriptions.Change) error {
		return exec(`SELECT 1`)(ctx, tx)
	}})
	account := stripesim.New(1, stripesim.Epoch)
	account.Subscribe(stripesim.VersionBasil)
	api := httptest.NewServer(stripesim.NewAPI(account))
	t.Cleanup(api.Close)
	host := hooktest.New(t, h, configure)
	if _, err := subscriptions.Verify(t.Context(), host.Pool, &subscriptions.VerifyConfig{
		APIKey: "sk_test_1", APIBase: api.URL, Fix: host.Receiver, Projection: projection,
	}); err != nil {
		t.Fatal(err)
	}
	if all := spans.All(); len(all) != 0 || host.Count(t, "subscriptions") != 1 {
		t.Errorf("an import has %d spans", len(all))
	}
	host.Expect(t, about("evt_1", "sub_other", "active"), 200, webhooks.OutcomeProcessed)
	delivery := spans.One(t, "stripe customer.subscription.updated")
	hook := spans.One(t, "handler subscription.OnChange")
	if !spantest.IsChild(hook, delivery) {
		t.Error("OnChange is no child of its delivery")
	}
	spantest.Has(t, hook, "stripeonce.handler=subscription.OnChange", "stripeonce.pattern=customer.subscription.*", "stripe.event.id=evt_1")

	ev, err := webhooks.ParseEvent(about("evt_1", "sub_other", "active"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Receiver.Reprocess(t.Context(), ev, webhooks.ReprocessOptions{Hooks: true, Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	again := spans.Named(t, "stripe customer.subscription.updated", 2)[1]
	spantest.Has(t, again, "stripeonce.reprocess=true", "stripeonce.outcome=processed")
	spantest.Lacks(t, again, "stripeonce.replay")
	if hook := spans.Named(t, "handler subscription.OnChange", 2)[1]; !spantest.IsChild(hook, again) {
		t.Error("OnChange is no child of the event that is reprocessed")
	}
}

// A fetch has a step with its URL, and a failed one the response's status. The handler that requests it has not failed.
func TestTraceOfAFetch(t *testing.T) {
	t.Parallel()
	fails := true
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if fails {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(`{"error":{"type":"api_error","message":"geheim"}}`))
			return
		}
		_, _ = w.Write([]byte(`{"id":"sub_1","object":"subscription"}`))
	}))
	t.Cleanup(api.Close)
	h := webhooks.NewHandlers()
	webhooks.On(h, "customer.subscription.updated", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		if ev.Current == nil {
			return webhooks.Fetch(webhooks.FetchOptions{})
		}
		return nil
	})
	spans, configure := traces()
	host := hooktest.New(t, h, func(c *webhooks.Config) {
		c.APIKey, c.APIBase = "sk_test_geheim", api.URL
		configure(c)
	})
	host.Expect(t, about("evt_1", "sub_1", "active"), 503, "")
	failed := spans.One(t, "fetch from Stripe")
	spantest.Has(t, failed, "url.full="+api.URL+"/v1/subscriptions/sub_1", "server.address=127.0.0.1", "http.request.method=GET",
		"http.response.status_code=502", "error.type=502", "stripe.event.id=evt_1")
	fails = false
	host.Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeProcessed)
	fetch, delivery := spans.Named(t, "fetch from Stripe", 2)[1], spans.Named(t, "stripe customer.subscription.updated", 2)[1]
	if !spantest.IsChild(fetch, delivery) {
		t.Error("the fetch is no child of its delivery")
	}
	spantest.Lacks(t, fetch, "error.type")
	for _, handler := range spans.Named(t, "handler customer.subscription.updated", 3) {
		spantest.Lacks(t, handler, "error.type")
	}
}

// A handler that ends its goroutine has failed, and its step has ended.
func TestTraceOfGoexit(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error {
		runtime.Goexit()
		return nil
	})
	spans, configure := traces()
	host := hooktest.New(t, h, configure)
	host.Expect(t, testEvent, 500, "")
	if status := spans.One(t, "handler test.event").Status; status.Description != "it called runtime.Goexit" {
		t.Errorf("the step has the error %q", status.Description)
	}
	detail, err := operations.New(host.Pool, nil).EventDetail(t.Context(), "evt_1")
	if err != nil || detail.Failure.TraceID == nil {
		t.Errorf("the record is %+v, %v", detail, err)
	}
}

// foreignTracer has ids of another form than W3C's.
type foreignTracer struct{ ids webhooks.TraceContext }

func (foreignTracer) TraceStart(ctx context.Context, _ webhooks.TraceStart) context.Context {
	return ctx
}
func (foreignTracer) TraceEnd(context.Context, webhooks.TraceEnd)          {}
func (f foreignTracer) TraceContext(context.Context) webhooks.TraceContext { return f.ids }

// Ids that are not W3C's do not keep a failure from being recorded, nor an event from being parked.
func TestForeignTraceIDs(t *testing.T) {
	t.Parallel()
	for name, ids := range map[string]webhooks.TraceContext{
		"too long":  {TraceID: "1-5759e988-bd862e3fe1be46a994272793", SpanID: "53995c3f42cd8ad8", Sampled: true},
		"NUL":       {TraceID: "0af7651916cd43dd8448eb211c80319\x00", SpanID: "b7ad6b7169203331", Sampled: true},
		"too short": {TraceID: "0af7651916cd43dd8448eb211c80319c", SpanID: "1", Sampled: true},
	} {
		h := webhooks.NewHandlers()
		webhooks.On(h, "test.parked", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error {
			return webhooks.Park(errUnknownCustomer)
		})
		webhooks.On(h, "test.failed", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error { return errUnknownCustomer })
		host := hooktest.New(t, h, func(c *webhooks.Config) { c.Tracer = foreignTracer{ids} })
		host.Expect(t, hooktest.Event("evt_1", "test.parked", 1, `{}`), 200, webhooks.OutcomeParked)
		host.Expect(t, hooktest.Event("evt_2", "test.failed", 1, `{}`), 500, "")
		if got := pgtest.Scan[string](t, host.Pool, `SELECT string_agg(event_id || COALESCE(trace_id, ''), ' ' ORDER BY event_id) FROM stripe_webhook_failures`); got != "evt_1 evt_2" {
			t.Errorf("%s: the failures are %s", name, got)
		}
	}
}
