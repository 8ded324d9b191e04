package webhooks_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// A caller that gives up its Apply while a handler runs undoes the work. That is no failure of the event, whatever the
// handler makes of it: nothing is recorded, and the next delivery applies the event.
func TestInterruptedApply(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"the handler returns the context's error": func(ctx context.Context, _ pgx.Tx) error { return ctx.Err() },
		"the handler returns another error":       func(context.Context, pgx.Tx) error { return errOfATest },
		"the handler returns nil":                 succeed,
		"the handler panics":                      func(context.Context, pgx.Tx) error { panic("on purpose") },
		"a statement of the handler fails":        exec(addOne),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := make(chan struct{})
			host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error {
				close(begun)
				<-ctx.Done()
				return end(ctx, tx)
			}), nil)
			isReady(t, host)
			ev, err := webhooks.ParseEvent(testEvent)
			if err != nil {
				t.Fatal(err)
			}
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			done := make(chan error, 1)
			go func() {
				_, err := host.Receiver.Apply(ctx, ev)
				done <- err
			}()
			pgtest.Receive(t, "the handler begins", begun)
			giveUp()
			if err := pgtest.Receive(t, "Apply returns", done); err == nil {
				t.Error("Apply, given up, succeeds")
			} else if name == "the handler returns the context's error" && !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v", err)
			}
			if err := host.Shutdown(); err != nil { // so that nothing is left to be recorded
				t.Fatal(err)
			}
			if n := host.Count(t, "stripe_webhook_failures"); n != 0 {
				t.Errorf("there are %d failures", n)
			}
			expectCounter(t, host, 0)
			hooktest.On(t, host.Pool, counting(succeed), nil).Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
			expectCounter(t, host, 1)
		})
	}
}

// A duplicate that waits for a call whose caller gives up does not fail: the event is applied for the next waiting delivery.
func TestInterruptedApplyHasHeirs(t *testing.T) {
	t.Parallel()
	const heirs = 3
	g := newBlockingHandler()
	host := newCounter(t, g.handlers(), func(c *webhooks.Config) { c.Timeout = pgtest.WaitLimit })
	isReady(t, host)
	ev, err := webhooks.ParseEvent(testEvent)
	if err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	done := make(chan error, 1)
	go func() {
		_, err := host.Receiver.Apply(ctx, ev)
		done <- err
	}()
	g.awaitStart(t)
	waiting := send(t, host, testEvent, testEvent, testEvent)
	awaitInFlight(t, host, 1+heirs)
	giveUp()
	g.release(t, errOfATest)
	if err := pgtest.Receive(t, "Apply returns", done); err == nil {
		t.Error("Apply, given up, succeeds")
	}
	g.awaitStart(t)
	g.release(t, nil)
	outcomes := map[webhooks.Outcome]int{}
	for _, reply := range waiting() {
		outcomes[reply.Outcome()]++
	}
	if outcomes[webhooks.OutcomeProcessed] != 1 || outcomes[webhooks.OutcomeDuplicate] != heirs-1 {
		t.Errorf("the outcomes of those that waited are %v", outcomes)
	}
	expectCounter(t, host, 1)
	if n := host.Count(t, "stripe_webhook_failures"); n != 0 {
		t.Errorf("there are %d failures", n)
	}
}
