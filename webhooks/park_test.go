package webhooks_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

var errUnknownCustomer = errors.New("nobody knows the customer")

// parking is a host whose handlers, an On handler on both sides of the projection and its OnChange, park while they are told to.
type parking struct {
	*hooktest.Host
	on, onChange bool
	logs         *logged
}

func newParking(t *testing.T, configure func(*webhooks.Config)) *parking {
	t.Helper()
	p := &parking{logs: &logged{}}
	h := webhooks.NewHandlers()
	effect := func(n string) func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		return func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
			return exec(`UPDATE counter SET n = n + `+n)(ctx, tx)
		}
	}
	webhooks.On(h, "*", effect("1"))
	subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, _ subscriptions.Change) error {
		if err := exec(`UPDATE counter SET n = n + 100`)(ctx, tx); err != nil || !p.onChange {
			return err
		}
		return webhooks.Park(errUnknownCustomer)
	}})
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, obj *anyObject) error {
		if err := effect("10")(ctx, tx, ev, obj); err != nil || !p.on {
			return err
		}
		return webhooks.Park(errUnknownCustomer)
	})
	p.Host = newCounter(t, h, func(c *webhooks.Config) {
		p.logs.config(c)
		if configure != nil {
			configure(c)
		}
	})
	return p
}

// stored is what the database says of the event: the effects, the ledger, the record, the subscriptions.
func (p *parking) stored(t *testing.T) string {
	t.Helper()
	return pgtest.Scan[string](t, p.Pool, `SELECT concat_ws(' ', (SELECT n FROM counter), (SELECT string_agg(outcome, ',') FROM stripe_webhook_events),
		(SELECT string_agg(concat_ws('/', state, attempts, payload IS NOT NULL), ',') FROM stripe_webhook_failures), (SELECT count(*) FROM subscriptions))`)
}

func (p *parking) replay(t *testing.T, body []byte) (webhooks.Outcome, error) {
	t.Helper()
	ev, err := webhooks.ParseEvent(body)
	if err != nil {
		t.Fatal(err)
	}
	result, err := p.Receiver.Replay(t.Context(), ev)
	return result.Outcome, err
}

// An On handler parks: nothing of the On handlers is kept, the projection and its OnChange take effect; the ledger and the
// record say so; deliveries run nothing; a replay applies what is missing, once.
func TestPark(t *testing.T) {
	t.Parallel()
	p := newParking(t, nil)
	p.on = true
	body := about("evt_1", "sub_1", "active")
	p.Expect(t, body, 200, webhooks.OutcomeParked)
	want := func(want string) {
		t.Helper()
		if got := p.stored(t); got != want {
			t.Errorf("stored is %q, want %q", got, want)
		}
	}
	want("100 parked parked/1/t 1")
	p.logs.want(t, "level=WARN", "outcome=parked", errUnknownCustomer.Error())
	p.on = false
	p.Expect(t, body, 200, webhooks.OutcomeDuplicate)
	ev, err := webhooks.ParseEvent(body)
	if err != nil {
		t.Fatal(err)
	}
	if result, err := p.Receiver.Apply(t.Context(), ev); err != nil || result.Outcome != webhooks.OutcomeDuplicate {
		t.Errorf("Apply gives %v, %v", result, err)
	}
	hooktest.On(t, p.Pool, webhooks.NewHandlers(), nil).Expect(t, body, 200, webhooks.OutcomeDuplicate)
	want("100 parked parked/1/t 1")
	p.on = true // parked again
	if outcome, err := p.replay(t, body); err != nil || outcome != webhooks.OutcomeParked {
		t.Errorf("the replay gives %s, %v", outcome, err)
	}
	want("100 parked parked/2/t 1")
	p.on = false
	if outcome, err := p.replay(t, body); err != nil || outcome != webhooks.OutcomeProcessed {
		t.Errorf("the replay gives %s, %v", outcome, err)
	}
	want("111 processed parked/2/t 1")
	if outcome, err := p.replay(t, body); err != nil || outcome != webhooks.OutcomeDuplicate {
		t.Errorf("the second replay gives %s, %v", outcome, err)
	}
	want("111 processed parked/2/t 1")
	if n := p.Receiver.Stats().Deliveries["parked"].Count; n != 1 {
		t.Errorf("%d deliveries count as parked", n)
	}
}

// OnChange parks, by itself or in the second attempt of an event that On parks: nothing takes effect, not the
// subscription either.
func TestOnChangeParks(t *testing.T) {
	t.Parallel()
	for _, both := range []bool{false, true} {
		p := newParking(t, nil)
		p.on, p.onChange = both, true
		body := about("evt_1", "sub_1", "active")
		p.Expect(t, body, 200, webhooks.OutcomeParked)
		if got := p.stored(t); got != "0 parked parked/1/t 0" {
			t.Errorf("stored is %q", got)
		}
		p.on, p.onChange = false, false
		if outcome, err := p.replay(t, body); err != nil || outcome != webhooks.OutcomeProcessed {
			t.Errorf("the replay gives %s, %v", outcome, err)
		}
		if got := p.stored(t); got != "111 processed parked/1/t 1" {
			t.Errorf("after the replay, stored is %q", got)
		}
	}
}

// A parked event that fails when it is replayed stays parked, and its record counts the attempt.
func TestReplayOfParkedFails(t *testing.T) {
	t.Parallel()
	p := newParking(t, nil)
	p.on = true
	p.Expect(t, testEvent, 200, webhooks.OutcomeParked)
	p.on = false
	pgtest.Exec(t, p.Pool, `ALTER TABLE counter ADD CONSTRAINT never CHECK (n < 10)`)
	if _, err := p.replay(t, testEvent); err == nil {
		t.Error("the replay did not fail")
	}
	if got := p.stored(t); got != "0 parked parked/2/t 0" {
		t.Errorf("stored is %q", got)
	}
}

// A handler that ended the transaction itself does not park: what it committed would happen again with the replay.
func TestParkBehindARawCommit(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"COMMIT": exec(`COMMIT`), "COMMIT AND CHAIN": exec(`COMMIT AND CHAIN`), "tx.Commit": func(ctx context.Context, tx pgx.Tx) error {
			_ = tx.Commit(ctx)
			return nil
		},
	} {
		host := newCounter(t, counting(func(ctx context.Context, tx pgx.Tx) error {
			return errors.Join(end(ctx, tx), webhooks.Park(errUnknownCustomer))
		}), nil)
		reply := host.Send(t, testEvent)
		if name != "COMMIT AND CHAIN" && reply.Status != 500 {
			t.Errorf("after %s the reply is %s", name, reply)
		}
	}
}

// An event that failed before, or was ignored, parks as any other. Where the record cannot be written with it, nothing
// is acknowledged.
func TestParkAfterFailureOrIgnored(t *testing.T) {
	t.Parallel()
	p := newParking(t, nil)
	hooktest.On(t, p.Pool, webhooks.NewHandlers(), nil).Expect(t, testEvent, 200, webhooks.OutcomeIgnored)
	pgtest.Exec(t, p.Pool, `ALTER TABLE counter RENAME TO away`)
	p.Expect(t, testEvent, 500, "")
	pgtest.Exec(t, p.Pool, `ALTER TABLE away RENAME TO counter`)
	p.on = true
	pgtest.Exec(t, p.Pool, `ALTER TABLE stripe_webhook_failures ADD CONSTRAINT never CHECK (state <> 'parked')`)
	p.Expect(t, testEvent, 500, "")
	pgtest.Exec(t, p.Pool, `ALTER TABLE stripe_webhook_failures DROP CONSTRAINT never`)
	p.Expect(t, testEvent, 200, webhooks.OutcomeParked)
	if got := p.stored(t); got != "0 parked parked/3/t 0" {
		t.Errorf("stored is %q", got)
	}
}

// Without a payload, the record says until when Stripe has the event.
func TestParkWithoutPayload(t *testing.T) {
	t.Parallel()
	p := newParking(t, func(c *webhooks.Config) { c.DropPayloads = true })
	p.on = true
	p.Expect(t, testEvent, 200, webhooks.OutcomeParked) // of 14 November 2023
	got := pgtest.Scan[string](t, p.Pool, `SELECT last_error FROM stripe_webhook_failures`)
	if !strings.Contains(got, "nobody knows the customer") || !strings.Contains(got, "replay it before 2023-12-14") {
		t.Errorf("the record says %q", got)
	}
}

// A person's replay over HTTP is told from a delivery of Stripe's by a header that a signing secret has made.
func TestReplayOverHTTP(t *testing.T) {
	t.Parallel()
	p := newParking(t, nil)
	p.on = true
	p.Expect(t, testEvent, 200, webhooks.OutcomeParked)
	p.on = false
	for name, value := range map[string]string{
		"made with another secret":    signing.SignReplay(testEvent, "whsec_of_somebody"),
		"made for another event":      signing.SignReplay(noObject, hooktest.Secret),
		"Stripe's own of the request": signing.Sign(testEvent, hooktest.Secret),
	} {
		if reply := p.sendReplay(t, testEvent, value); reply.Status != 400 {
			t.Errorf("with a header %s the reply is %s", name, reply)
		}
	}
	p.Expect(t, testEvent, 200, webhooks.OutcomeDuplicate)
	reply, err := p.Sender.Replay(t.Context(), testEvent)
	if err != nil || reply.Outcome() != webhooks.OutcomeProcessed {
		t.Errorf("the reply is %s, %v", reply, err)
	}
	expectCounter(t, p.Host, 11)
}

func (p *parking) sendReplay(t *testing.T, body []byte, header string) delivery.Reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(webhooks.SignatureHeader, signing.Sign(body, hooktest.Secret))
	req.Header.Set(signing.ReplayHeader, header)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return delivery.Reply{Status: resp.StatusCode}
}
