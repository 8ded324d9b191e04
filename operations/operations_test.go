package operations_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// bench is a receiver, a simulated account with its API, and an operator.
type bench struct {
	*hooktest.Host
	*operations.Operator
	account *stripesim.Account
	api     *stripesim.API
	apiURL  string
	broken  atomic.Bool // the handler fails
}

// newBench simulates an account's last two days and delivers none of its events.
func newBench(t *testing.T, subscribers int) *bench {
	t.Helper()
	b := &bench{account: stripesim.New(1, time.Now().Add(-48*time.Hour))}
	for range subscribers {
		s := b.account.Subscribe(stripesim.VersionBasil)
		b.account.Wait(time.Second)
		s.Activate()
		s.SetQuantity(3)
		b.account.Wait(time.Minute)
	}
	b.api = stripesim.NewAPI(b.account)
	server := httptest.NewServer(b.api)
	t.Cleanup(server.Close)
	b.apiURL = server.URL
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	webhooks.On(h, "customer.subscription.*", b.handle)
	webhooks.On(h, "invoice.paid", b.handle)
	b.Host = hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", server.URL })
	pgtest.Exec(t, b.Pool, judge.EffectsTable)
	b.Operator = b.operator(b.Receiver, time.Minute)
	return b
}

func (b *bench) operator(applier operations.Applier, timeout time.Duration) *operations.Operator {
	return operations.New(b.Pool, &operations.Config{
		Applier: applier, APIKey: "sk_test_1", APIBase: b.apiURL, APITimeout: timeout, Logger: hooktest.NoLog(),
	})
}

// handle records each effect, so that a repeated effect is found.
func (b *bench) handle(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *map[string]any) error {
	if b.broken.Load() {
		return errors.New("broken by a deploy")
	}
	_, err := tx.Exec(ctx, judge.Effect, ev.ID)
	return err
}

func (b *bench) deliver(t *testing.T, events ...*stripesim.Event) {
	t.Helper()
	for _, ev := range events {
		b.Send(t, ev.Body)
	}
}

// expectTruth checks that every event took effect once and that every row matches Stripe's.
func (b *bench) expectTruth(t *testing.T) {
	t.Helper()
	findings, err := judge.Judge(t.Context(), b.Pool, b.account)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}

func (b *bench) reconcile(t *testing.T, options operations.ReconcileOptions) (operations.ReconcileResult, []string) {
	t.Helper()
	if options.Since == 0 {
		options.Since = 72 * time.Hour
	}
	var reported []string
	options.Each = func(m operations.MissingEvent) {
		line := m.EventID + " " + string(m.Outcome)
		if m.Err != nil {
			line += m.Err.Error()
		}
		reported = append(reported, line)
	}
	sum, err := b.Reconcile(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	return sum, reported
}

// Missing events are found and applied, oldest first. A second run finds nothing.
func TestReconcile(t *testing.T) {
	t.Parallel()
	b := newBench(t, 60) // 4 events each: three pages
	all := len(b.account.Events)
	for i, ev := range b.account.Events {
		if i%3 == 0 {
			b.deliver(t, ev)
		}
	}
	missing := all - (all+2)/3
	dry, reported := b.reconcile(t, operations.ReconcileOptions{DryRun: true})
	if want := (operations.ReconcileResult{Listed: all, Missing: missing}); dry != want || len(reported) != missing {
		t.Errorf("the dry run is %+v and reports %d, want %+v", dry, len(reported), want)
	}
	if n := b.Count(t, "stripe_webhook_events"); n != all-missing {
		t.Errorf("the dry run wrote: %d rows", n)
	}
	sum, reported := b.reconcile(t, operations.ReconcileOptions{})
	if want := (operations.ReconcileResult{Listed: all, Missing: missing, Applied: missing}); sum != want {
		t.Errorf("it is %+v, want %+v", sum, want)
	}
	var order []string
	for i, ev := range b.account.Events {
		if i%3 != 0 {
			order = append(order, ev.ID)
		}
	}
	for i := range reported {
		if !strings.HasPrefix(reported[i], order[i]+" ") {
			t.Fatalf("the %dth that is applied is %s, want %s: the oldest first", i, reported[i], order[i])
		}
	}
	if sum, _ := b.reconcile(t, operations.ReconcileOptions{}); sum != (operations.ReconcileResult{Listed: all}) {
		t.Errorf("again it is %+v", sum)
	}
	b.expectTruth(t)
}

// If more events are missing than the buffer holds, parts of the window are listed again and still applied in order.
func TestReconcileInParts(t *testing.T) {
	t.Parallel()
	b := newBench(t, 120)
	all := len(b.account.Events)
	sum, reported := b.reconcile(t, operations.ReconcileOptions{MaxBufferBytes: 100_000})
	if n := len(b.api.Requests()); n > 120 {
		t.Errorf("it takes %d requests", n)
	} else {
		t.Logf("%d requests", n)
	}
	if want := (operations.ReconcileResult{Listed: all, Missing: all, Applied: all}); sum != want {
		t.Errorf("it is %+v, want %+v", sum, want)
	}
	for i, ev := range b.account.Events {
		if !strings.HasPrefix(reported[i], ev.ID+" ") {
			t.Fatalf("the %dth that is applied is %s, want %s", i, reported[i], ev.ID)
		}
	}
	b.expectTruth(t)
}

// Requests that are refused, fail or hang in the middle of a list are retried, and no event is lost.
func TestReconcileRetriesRequests(t *testing.T) {
	t.Parallel()
	b := newBench(t, 60)
	b.Operator = b.operator(b.Receiver, 5*time.Second) // as long as the request that hangs takes, and longer than any on a busy machine
	b.api.Fail(
		stripesim.Fault{Status: 429, RetryAfter: time.Second, Path: "/v1/events", Pass: 1},
		stripesim.Fault{Status: 500, Path: "/v1/events"},
		stripesim.Fault{Hang: true, Path: "/v1/events"},
	)
	if sum, _ := b.reconcile(t, operations.ReconcileOptions{}); sum.Applied != len(b.account.Events) || sum.Failed != 0 {
		t.Errorf("it is %+v", sum)
	}
	b.expectTruth(t)
}

// Reconcile continues after an event that fails permanently. Replay reports the event until its cause is fixed.
func TestReconcileContinues(t *testing.T) {
	t.Parallel()
	b := newBench(t, 5)
	pgtest.Exec(t, b.Pool, `ALTER TABLE effects ADD CHECK (event_id <> '`+b.account.Events[7].ID+`')`)
	sum, reported := b.reconcile(t, operations.ReconcileOptions{})
	all := len(b.account.Events)
	if want := (operations.ReconcileResult{Listed: all, Missing: all, Applied: all - 1, Failed: 1}); sum != want {
		t.Errorf("it is %+v, want %+v", sum, want)
	}
	if !strings.Contains(reported[7], "check constraint") {
		t.Errorf("the failing event is reported as %s", reported[7])
	}
	failures, err := b.Failures(t.Context(), operations.FailureFilter{})
	if err != nil || len(failures) != 1 || failures[0].EventID != b.account.Events[7].ID {
		t.Errorf("the failures are %+v, %v", failures, err)
	}
	pgtest.Exec(t, b.Pool, `ALTER TABLE effects DROP CONSTRAINT effects_event_id_check`)
	var applied []operations.EventResult
	if err := b.ReplayFailed(t.Context(), "", func(a operations.EventResult) { applied = append(applied, a) }); err != nil || len(applied) != 1 || applied[0].Err != nil {
		t.Errorf("replay: %+v, %v", applied, err)
	}
	b.expectTruth(t)
}

// Ignored events are applied once they have a handler. Others are left.
func TestReconcileIgnored(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	b.account.Subscriptions[0].FailPayment() // invoice.created and invoice.payment_failed have no handler
	before := hooktest.On(t, b.Pool, webhooks.NewHandlers(), nil)
	for _, ev := range b.account.Events {
		before.Expect(t, ev.Body, 200, webhooks.OutcomeIgnored)
	}
	all := len(b.account.Events)
	sum, _ := b.reconcile(t, operations.ReconcileOptions{})
	if want := (operations.ReconcileResult{Listed: all - 2, Missing: all - 2, Applied: all - 2}); sum != want {
		t.Errorf("it is %+v, want %+v", sum, want)
	}
	// A remote receiver's handlers are not known: every event is listed, and an event that is still ignored is not missing.
	b.Operator = b.operator(operations.NewRemote(b.URL, hooktest.Secret), time.Minute)
	if sum, _ := b.reconcile(t, operations.ReconcileOptions{}); sum != (operations.ReconcileResult{Listed: all}) {
		t.Errorf("with a remote receiver it is %+v", sum)
	}
	if sum, _ := b.reconcile(t, operations.ReconcileOptions{Types: []string{"invoice.*"}}); sum.Listed >= all || sum.Listed == 0 {
		t.Errorf("of one type it is %+v", sum)
	}
}

// The events of an account that delivers only thin events are listed from /v2. A thin event is then never applied in
// addition to its snapshot event, whether it names that or not.
func TestReconcileThin(t *testing.T) {
	t.Parallel()
	for _, unnamed := range []bool{false, true} {
		t.Run(fmt.Sprint("unnamed ", unnamed), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 12)
			b.api.Unnamed = unnamed
			b.api.AddDestination(stripesim.Destination{ID: "ed_1", Payload: "thin", Status: "enabled", Types: []string{"v1.customer.subscription.updated"}})
			var about []*stripesim.Event
			for _, ev := range b.account.Events {
				if ev.ObjectID == ev.SubscriptionID {
					about = append(about, ev)
				}
			}
			for i, ev := range about {
				if i%2 == 0 {
					b.Expect(t, ev.Thin(!unnamed), 200, webhooks.OutcomeProcessed)
				}
			}
			options := operations.ReconcileOptions{Types: []string{"customer.subscription.*"}}
			sum, _ := b.reconcile(t, options)
			if want := (operations.ReconcileResult{Listed: len(about), Missing: len(about) / 2, Applied: len(about) / 2}); sum != want {
				t.Errorf("it is %+v, want %+v", sum, want)
			}
			asked := b.objectsAsked()
			if sum, _ := b.reconcile(t, options); sum.Missing != 0 || b.objectsAsked() != asked {
				t.Errorf("again it is %+v, and fetches %d objects", sum, b.objectsAsked()-asked)
			}
			if n := b.Count(t, "effects"); n != len(about) {
				t.Errorf("%d effects of %d events", n, len(about))
			}
			// The thin event is also found by its own id.
			if a := b.Replay(t.Context(), about[0].ThinID(), ""); a.Outcome != webhooks.OutcomeDuplicate {
				t.Errorf("the replay of a thin event is %+v", a)
			}
		})
	}
}

// Events of v2 resources are in the list of thin events alone. They are found where a handler is registered for their type,
// also if the account delivers snapshot events, too.
func TestReconcileV2(t *testing.T) {
	t.Parallel()
	const eventType = "v2.core.account.updated"
	var asked []string
	thin := webhookstest.ThinEvent{ID: "evt_v2", Type: eventType, Created: time.Now(), Related: webhookstest.Related{ID: "acct_1", Type: "v2.core.account", URL: "/v2/core/accounts/acct_1"}}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked = append(asked, req.URL.Path+" "+req.URL.Query().Get("types[0]"))
		switch req.URL.Path {
		case "/v1/webhook_endpoints":
			_, _ = io.WriteString(w, `{"data":[{"id":"we_1"}],"has_more":false}`)
		case "/v2/core/events":
			_, _ = io.WriteString(w, `{"data":[`+string(thin.Body())+`],"next_page_url":null}`)
		case "/v2/core/accounts/acct_1":
			_, _ = io.WriteString(w, `{"id":"acct_1","object":"v2.core.account"}`)
		default:
			_, _ = io.WriteString(w, `{"data":[],"has_more":false}`)
		}
	}))
	t.Cleanup(api.Close)
	h := webhooks.NewHandlers()
	seen := 0
	webhooks.On(h, eventType, func(context.Context, pgx.Tx, *webhooks.Event, *map[string]any) error { seen++; return nil })
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *map[string]any) error { return nil })
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", api.URL })
	o := operations.New(host.Pool, &operations.Config{Applier: host.Receiver, APIKey: "sk_test_1", APIBase: api.URL})
	for round, want := range []operations.ReconcileResult{{Listed: 1, Missing: 1, Applied: 1}, {Listed: 1}} {
		if sum, err := o.Reconcile(t.Context(), operations.ReconcileOptions{Since: time.Hour}); err != nil || sum != want {
			t.Errorf("round %d gives %+v, %v, want %+v", round, sum, err, want)
		}
	}
	if seen != 1 || !slices.Contains(asked, "/v2/core/events "+eventType) {
		t.Errorf("the handler ran %d times, and the requests are %v", seen, asked)
	}
}

// An interrupted event does not count as failed.
func TestInterruptedIsNotFailed(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(ctx context.Context, _ pgx.Tx, _ *webhooks.Event, _ *map[string]any) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	stuck := hooktest.On(t, b.Pool, h, nil)
	o := b.operator(stuck.Receiver, time.Minute)
	if sum, err := o.Reconcile(ctx, operations.ReconcileOptions{Since: 72 * time.Hour}); !errors.Is(err, context.Canceled) || sum.Failed != 0 {
		t.Errorf("it is %+v, %v", sum, err)
	}
	if n := b.Count(t, "stripe_webhook_failures"); n != 0 {
		t.Errorf("there are %d failures", n)
	}
}

// An account with a disabled endpoint for snapshot events counts as one that delivers snapshot events.
func TestReconcileWithADisabledEndpoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	b.api.AddDestination(stripesim.Destination{ID: "ed_1", Payload: "thin", Status: "enabled", Types: []string{"v1.invoice.paid"}})
	b.api.AddEndpoint(stripesim.Endpoint{URL: "https://example.com/", EnabledEvents: []string{"*"}, Disabled: true})
	b.reconcile(t, operations.ReconcileOptions{})
	for _, req := range b.api.Requests() {
		if req.URL.Path == "/v2/core/events" {
			t.Error("it lists thin events")
		}
	}
	b.expectTruth(t)
}

// objectsAsked counts the requests for single subscriptions.
func (b *bench) objectsAsked() (n int) {
	for _, req := range b.api.Requests() {
		if strings.HasPrefix(req.URL.Path, "/v1/subscriptions/") {
			n++
		}
	}
	return n
}
