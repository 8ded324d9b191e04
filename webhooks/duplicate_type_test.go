package webhooks_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// The test events of Stripe's dashboard all have one id: the second is a duplicate, whatever its type, and the log says
// so, however the receiver finds out.
func TestIDComesBackWithAnotherType(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/test_event_id.json")
	if err != nil {
		t.Fatal(err)
	}
	var bodies []json.RawMessage
	if err := json.Unmarshal(text, &bodies); err != nil {
		t.Fatal(err)
	}
	const warning = `msg="handled an event as a duplicate: its id is recorded with another type`
	h := func() *webhooks.Handlers {
		h := webhooks.NewHandlers()
		subscriptions.Register(h, nil)
		return h
	}
	logs := &logged{}
	host := hooktest.New(t, h(), logs.config)
	host.Expect(t, bodies[1], 200, webhooks.OutcomeProcessed)
	host.Expect(t, bodies[0], 200, webhooks.OutcomeDuplicate) // by the filter of what it has seen
	logs.want(t, warning, "event_type=invoice.payment_succeeded recorded_type=customer.subscription.created")

	elsewhere := &logged{} // in a transaction
	hooktest.On(t, host.Pool, h(), elsewhere.config).Expect(t, bodies[0], 200, webhooks.OutcomeDuplicate)
	elsewhere.want(t, warning)

	batch := &logged{}
	c := newBatchHost(t)
	c.Host = hooktest.On(t, pgtest.Connect(t, host.DatabaseURL), h(), batch.config)
	wantReplies(t, send(t, c.Host, append(several(4), bodies[0])...)()[4:], webhooks.OutcomeDuplicate)
	batch.want(t, warning)

	g, once := newBlockingHandler(), &logged{} // in flight at the same time
	busy := newCounter(t, g.handlers(), once.config)
	first := send(t, busy, hooktest.Event("evt_1", "test.event", 1, `{}`))
	g.awaitStart(t)
	second := send(t, busy, hooktest.Event("evt_1", "another.event", 1, `{}`))
	awaitInFlight(t, busy, 2)
	g.release(t, nil)
	wantReplies(t, first(), webhooks.OutcomeProcessed)
	wantReplies(t, second(), webhooks.OutcomeDuplicate)
	once.want(t, warning)
}
