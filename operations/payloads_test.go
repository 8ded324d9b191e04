package operations_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// An event that was ignored is replayed from the payload that was kept, without an API key. Old payloads are pruned, and then the
// error says what is missing.
func TestKeptPayloads(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	ignoring := hooktest.On(t, s.Pool, webhooks.NewHandlers(), func(c *webhooks.Config) { c.KeepPayloads = true })
	for _, id := range []string{"evt_1", "evt_2"} {
		ignoring.Expect(t, hooktest.Event(id, "invoice.paid", 1700000000, `{"id":"in_1"}`), 200, webhooks.OutcomeIgnored)
	}
	s.handle(addCredit)
	o := s.operator("")
	if applied := o.Replay(t.Context(), "evt_1", ""); applied.Err != nil || applied.Outcome != webhooks.OutcomeProcessed {
		t.Errorf("the replay gives %+v", applied)
	}
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_payloads SET stored_at = now() - interval '91 days' WHERE event_id = 'evt_2'`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.PrunePayloadsEvery(ctx, 90*24*time.Hour) }()
	pgtest.AwaitEqual(t, "the number of payloads", 1, func() int { return s.Count(t, "stripe_webhook_payloads") })
	cancel()
	if err := pgtest.Receive(t, "PrunePayloadsEvery ends", done); err != nil {
		t.Error(err)
	}
	if applied := o.Replay(t.Context(), "evt_2", ""); !errors.Is(applied.Err, operations.ErrNoAPIKey) || !strings.Contains(applied.Err.Error(), "no payload is stored") {
		t.Errorf("without a payload the replay gives %v", applied.Err)
	}
	if n := s.Count(t, "stripe_webhook_events"); n != 2 {
		t.Errorf("the ledger has %d rows, want 2", n)
	}
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_payloads SET stored_at = now() - interval '91 days'`)
	if pruned, err := o.Prune(t.Context(), operations.PruneOptions{OlderThan: 90 * 24 * time.Hour}); err != nil || pruned.Payloads != 1 || pruned.Deleted != 0 {
		t.Errorf("Prune gives %+v, %v", pruned, err)
	}
}

// A program without an application's handlers does not reconcile a ledger that has that application's events.
func TestSoleReceiver(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.deliver(t, "invoice.paid", 1)
	own := hooktest.On(t, s.Pool, webhooks.NewHandlers(), func(c *webhooks.Config) { c.Name = "stripeonce" })
	config := operations.Config{Applier: own.Receiver, APIKey: "sk_test_1", APIBase: "http://127.0.0.1:1", Logger: hooktest.NoLog(), SoleReceiver: true}
	o := operations.New(s.Pool, &config)
	others, err := o.OtherReceivers(t.Context())
	if err != nil || strings.Join(others, " ") != "host" {
		t.Errorf("the other receivers are %v, %v", others, err)
	}
	run(t, o, time.Hour)
	pgtest.Await(t, "the run fails", func() bool { return o.ReconcileStats().Failed == 1 })
	config.Applier = s.Receiver
	if others, err := operations.New(s.Pool, &config).OtherReceivers(t.Context()); err != nil || len(others) != 0 {
		t.Errorf("to the application itself others are %v, %v", others, err)
	}
}
