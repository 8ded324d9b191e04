package operations_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Replay uses the stored payload, or else fetches the event from Stripe. An event that has taken effect is a duplicate.
func TestReplay(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	ctx := t.Context()
	b.broken.Store(true)
	failing, lost := b.account.Events[0], b.account.Events[2]
	b.Expect(t, failing.Body, 500, "")
	if a := b.Replay(ctx, failing.ID, ""); a.Err == nil || !strings.Contains(a.Err.Error(), "broken by a deploy") {
		t.Errorf("while it is broken the replay is %+v", a)
	}
	detail, err := b.EventDetail(ctx, failing.ID)
	if err != nil || detail.Event != nil || !detail.Failing() || detail.Failure.Attempts != 2 || len(detail.Failure.History) != 2 ||
		!strings.Contains(detail.Failure.History[1].Error, "broken by a deploy") || detail.CreatedAt().Unix() != failing.Created {
		t.Errorf("its detail is %+v, %v", detail, err)
	}
	b.broken.Store(false)
	b.api.Fail(stripesim.Fault{Status: 400}) // there is no request
	for _, want := range []webhooks.Outcome{webhooks.OutcomeProcessed, webhooks.OutcomeDuplicate} {
		if a := b.Replay(ctx, failing.ID, ""); a.Outcome != want {
			t.Errorf("the replay is %+v, want %s", a, want)
		}
	}
	if a := b.Replay(ctx, lost.ID, ""); a.Err == nil || !strings.Contains(a.Err.Error(), "Stripe answers 400") {
		t.Errorf("while Stripe refuses, the replay is %+v", a)
	}
	for _, want := range []webhooks.Outcome{webhooks.OutcomeProcessed, webhooks.OutcomeDuplicate} {
		if a := b.Replay(ctx, lost.ID, ""); a.Outcome != want {
			t.Errorf("the replay from Stripe is %+v, want %s", a, want)
		}
	}
	if a := b.Replay(ctx, "evt_unknown", ""); a.Err == nil || !strings.Contains(a.Err.Error(), "No such event") {
		t.Errorf("the replay of an unknown event is %+v", a)
	}
	if detail, err := b.EventDetail(ctx, failing.ID); err != nil || detail.Failing() || detail.Failure == nil || detail.Event == nil {
		t.Errorf("its detail is %+v, %v", detail, err)
	}
	if failures, err := b.Failures(ctx, operations.FailureFilter{}); err != nil || len(failures) != 0 {
		t.Errorf("the failures are %+v, %v", failures, err)
	}
}

// Replay of an ignored event returns an error while the event has no handler, with every applier. With a handler, the event
// takes effect.
func TestReplayOfIgnored(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	ctx := t.Context()
	ignoring := hooktest.On(t, b.Pool, webhooks.NewHandlers(), nil)
	all := webhooks.NewHandlers()
	webhooks.On(all, "*", b.handle)
	other := hooktest.On(t, b.Pool, all, func(c *webhooks.Config) { c.Mode = webhooks.ModeLive })
	recorded, unknown := b.account.Events[0], b.account.Events[2]
	ignoring.Expect(t, recorded.Body, 200, webhooks.OutcomeIgnored)
	for name, c := range map[string]struct {
		applier operations.Applier
		want    string
	}{
		"here":           {ignoring.Receiver, "no handler ran: none is registered for " + recorded.Type + " in this process"},
		"remote":         {operations.NewRemote(ignoring.URL, hooktest.Secret), "no handler ran: none is registered for " + recorded.Type + " in the receiver at " + ignoring.URL},
		"the other mode": {other.Receiver, "events of this mode"},
	} {
		a := b.operator(c.applier, 0).Replay(ctx, recorded.ID, "")
		if a.Err == nil || !strings.Contains(a.Err.Error(), c.want) || a.Outcome != "" {
			t.Errorf("%s: the replay is %+v, want %q", name, a, c.want)
		}
	}
	if a := b.operator(ignoring.Receiver, 0).Replay(ctx, unknown.ID, ""); a.Err == nil || !strings.Contains(a.Err.Error(), "none is registered") {
		t.Errorf("the replay of one that the ledger lacks is %+v", a)
	}
	for _, ev := range []string{recorded.ID, unknown.ID} {
		for _, want := range []webhooks.Outcome{webhooks.OutcomeProcessed, webhooks.OutcomeDuplicate} {
			if a := b.Replay(ctx, ev, ""); a.Err != nil || a.Outcome != want {
				t.Errorf("with a handler the replay is %+v, want %s", a, want)
			}
		}
	}
}

// A receiver with an account id of its own stamps its events. That account is never named in a request.
func TestReplayOfOwnAccount(t *testing.T) {
	t.Parallel()
	var asked []string
	event := `{"id":"evt_1","object":"event","type":"invoice.paid","created":1,"data":{"object":{"id":"in_1"}}}`
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked = append(asked, req.URL.Path+" "+req.Header.Get("Stripe-Account"))
		_, _ = io.WriteString(w, event)
	}))
	t.Cleanup(api.Close)
	pool := pgtest.NewPool(t)
	receiver := func(types ...string) *hooktest.Host {
		h := webhooks.NewHandlers()
		for _, one := range types {
			webhooks.On(h, one, func(context.Context, pgx.Tx, *webhooks.Event, *map[string]any) error { return nil })
		}
		return hooktest.On(t, pool, h, func(c *webhooks.Config) { c.AccountID, c.APIKey, c.APIBase = "acct_own", "sk_test_1", api.URL })
	}
	receiver().Expect(t, []byte(event), 200, webhooks.OutcomeIgnored)
	host := receiver("invoice.paid")
	o := operations.New(pool, &operations.Config{Applier: host.Receiver, APIKey: "sk_test_1", APIBase: api.URL})
	if a := o.Replay(t.Context(), "evt_1", ""); a.Err != nil || a.Outcome != webhooks.OutcomeProcessed {
		t.Errorf("the replay is %+v", a)
	}
	if want := "[/v1/events/evt_1 ]"; fmt.Sprint(asked) != want {
		t.Errorf("the requests are %v, want %s", asked, want)
	}
	if got := pgtest.Scan[string](t, pool, `SELECT account_id FROM stripe_webhook_events`); got != "acct_own" {
		t.Errorf("the account is %s", got)
	}
}

// An event of a connected account is fetched as that account's.
func TestReplayOfConnectedAccount(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	connected := stripesim.New(2, time.Now().Add(-time.Hour))
	connected.Subscribe(stripesim.VersionBasil)
	b.api.Connect("acct_1", connected)
	id := connected.Events[0].ID
	if a := b.Replay(t.Context(), id, ""); a.Err == nil {
		t.Errorf("the platform has it: %+v", a)
	}
	if a := b.Replay(t.Context(), id, "acct_1"); a.Outcome != webhooks.OutcomeProcessed {
		t.Errorf("the replay is %+v", a)
	}
	connected.Wait(time.Minute)
	connected.Subscriptions[0].Activate()
	if sum, _ := b.reconcile(t, operations.ReconcileOptions{Account: "acct_1"}); sum != (operations.ReconcileResult{Listed: 3, Missing: 2, Applied: 2}) {
		t.Errorf("reconciled it is %+v", sum)
	}
	got := pgtest.Scan[string](t, b.Pool, `SELECT concat_ws(' ', (SELECT string_agg(DISTINCT account_id, ',') FROM stripe_webhook_events),
		(SELECT count(*) FROM stripe_webhook_events WHERE account_id IS NULL), (SELECT account_id || status FROM subscriptions))`)
	if got != "acct_1 0 acct_1active" {
		t.Errorf("the accounts of ledger and row are %s", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	ctx := t.Context()
	keyless := operations.New(b.Pool, &operations.Config{Applier: b.Receiver})
	powerless := b.operator(nil, 0)
	errs := map[string]error{}
	_, errs["too far back"] = b.Reconcile(ctx, operations.ReconcileOptions{Since: 31 * 24 * time.Hour})
	_, errs["not back"] = b.Reconcile(ctx, operations.ReconcileOptions{})
	_, errs["prune"] = b.Prune(ctx, operations.PruneOptions{OlderThan: 34 * 24 * time.Hour})
	errs["never"] = b.ReconcileEvery(ctx, 0)
	for name, err := range errs {
		if !errors.Is(err, operations.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := keyless.Reconcile(ctx, operations.ReconcileOptions{Since: time.Hour}); !errors.Is(err, operations.ErrNoAPIKey) {
		t.Errorf("without a key: %v", err)
	}
	if _, err := powerless.Reconcile(ctx, operations.ReconcileOptions{Since: time.Hour}); !errors.Is(err, operations.ErrNoApplier) {
		t.Errorf("without an applier: %v", err)
	}
	if _, err := b.EventDetail(ctx, "evt_0"); !errors.Is(err, operations.ErrNotFound) {
		t.Errorf("of an unknown event: %v", err)
	}
}

// What a tenant signed is replayed as that tenant's, whatever account it names. A failure that names another account's event
// is listed.
func TestReplayOfATenantsEvent(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{"/a": "whsec_of_tenant_a", "/b": "whsec_of_tenant_b"}
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	host := hooktest.New(t, h, func(c *webhooks.Config) {
		c.Secrets = nil
		c.AccountFor = func(req *http.Request) (*webhooks.Account, error) {
			return &webhooks.Account{ID: "acct" + strings.ReplaceAll(req.URL.Path, "/", "_"), Secrets: []string{secrets[req.URL.Path]}}, nil
		}
	})
	send := func(path, id, status, more string) int {
		sender := delivery.NewSender(host.URL+path, secrets[path], 1)
		defer sender.Close()
		reply, err := sender.Send(t.Context(), fmt.Appendf(nil, `{"id":%q,"type":"customer.subscription.updated","created":%d,%s
			"data":{"object":{"id":"sub_b","object":"subscription","customer":"cus_1","status":%q}}}`, id, len(id), more, status))
		if err != nil {
			t.Fatal(err)
		}
		return reply.Status
	}
	if status := send("/b", "evt_b", "active", ""); status != 200 {
		t.Errorf("the tenant's own event: %d", status)
	}
	for id, more := range map[string]string{"evt_forged_1": `"account":"acct_b",`, "evt_forged_2": `"context":"org_1/acct_b",`, "evt_b": ""} {
		if status := send("/a", id, "canceled", more); status != 500 {
			t.Errorf("%s: %d", id, status)
		}
	}
	o := operations.New(host.Pool, &operations.Config{Applier: host.Receiver})
	failures, err := o.Failures(t.Context(), operations.FailureFilter{Account: "acct_a"})
	if err != nil || len(failures) != 3 {
		t.Errorf("%d failures are listed, want 3: %v", len(failures), err)
	}
	if n, err := o.CountFailing(t.Context()); n != 3 || err != nil {
		t.Errorf("%d failures are counted, %v", n, err)
	}
	if err := o.ReplayFailed(t.Context(), "", func(a operations.EventResult) {
		if a.Err == nil {
			t.Errorf("the replay of %s is %s", a.EventID, a.Outcome)
		}
	}); err != nil {
		t.Error(err)
	}
	got := pgtest.Scan[string](t, host.Pool, `SELECT concat_ws(' ', status, account_id, last_event_id, (SELECT count(*) FROM stripe_webhook_events)) FROM subscriptions`)
	if got != "active acct_b evt_b 1" {
		t.Errorf("the subscription is %s", got)
	}
}
