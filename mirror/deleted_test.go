package mirror_test

import (
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// A product is deleted and created again within one second. Whichever event is the last to arrive, Stripe's response decides, also
// where the deletion's event has nothing but {"id", "object", "deleted"}.
func TestDeletedAndCreatedInOneSecond(t *testing.T) {
	t.Parallel()
	const (
		again   = `{"id":"gold","object":"product","created":1767225605,"name":"Gold again"}`
		deleted = `{"id":"gold","object":"product","deleted":true}`
	)
	for name, c := range map[string]struct{ first, second [2]string }{
		"the deletion is last": {[2]string{"product.created", again}, [2]string{"product.deleted", deleted}},
		"the creation is last": {[2]string{"product.deleted", deleted}, [2]string{"product.created", again}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			api := stripesim.NewAPI(stripesim.New(1, stripesim.Epoch))
			api.Set("/v1/products/gold", map[string]any{"id": "gold", "object": "product", "created": 1767225605, "name": "Gold again"})
			w.api.Store(api)
			w.host.Expect(t, event("evt_1", "product.created", 1, `{"id":"gold","object":"product","created":1767225601,"name":"Gold"}`, ""), 200, webhooks.OutcomeProcessed)
			w.host.Expect(t, event("evt_2", c.first[0], 5, c.first[1], ""), 200, webhooks.OutcomeProcessed)
			if reply := w.host.Send(t, event("evt_3", c.second[0], 5, c.second[1], "")); !reply.OK() {
				t.Error(reply)
			}
			if got := pgtest.Scan[string](t, w.host.Pool, `SELECT deleted || ' ' || (object ->> 'name') FROM stripe_objects`); got != "false Gold again" {
				t.Errorf("the row is %s", got)
			}
		})
	}
}
