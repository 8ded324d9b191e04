package webhooks_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// A user's function asks for the current object, and is run again with it; one that did not ask gets
// the event's own.
func TestFunctionAsks(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, stripesim.Epoch)
	sub := account.Subscribe(stripesim.VersionBasil)
	account.Wait(time.Hour)
	sub.Activate()
	api := httptest.NewServer(stripesim.NewAPI(account))
	t.Cleanup(api.Close)
	type object struct{ Status string }
	var asking, plain []string
	h := webhooks.NewHandlers()
	webhooks.On(h, "customer.subscription.created", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, sub *object) error {
		asking = append(asking, sub.Status)
		if ev.CanFetch() && ev.Current == nil {
			return webhooks.Fetch(webhooks.FetchOptions{Token: "a question"})
		}
		if ev.Current != nil && (ev.Current.Token != "a question" || ev.Current.AsOf.Unix() != account.Now || ev.Current.APIVersion != stripesim.VersionBasil) {
			t.Errorf("the answer is %+v", ev.Current)
		}
		return nil
	})
	webhooks.On(h, "customer.subscription.created", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, sub *object) error {
		plain = append(plain, sub.Status)
		if ev.Current != nil {
			t.Error("an answer was given to who did not ask")
		}
		return nil
	})
	withKey := hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", api.URL })
	body := account.Events[0].Body
	withKey.Expect(t, body, 200, webhooks.OutcomeProcessed)
	if len(asking) != 2 || asking[0] != "incomplete" || asking[1] != "active" || len(plain) != 1 || plain[0] != "incomplete" {
		t.Errorf("the function that asks saw %v, the other %v", asking, plain)
	}
	asking = nil
	otherMode := hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_live_1", api.URL })
	otherMode.Expect(t, body, 200, webhooks.OutcomeProcessed)
	if len(asking) != 1 {
		t.Errorf("with a key of the other mode the function saw %v", asking)
	}
}

// To ask without a key is a failure, and to ask without end, too.
func TestAskingInVain(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, stripesim.Epoch)
	account.Subscribe(stripesim.VersionBasil)
	api := httptest.NewServer(stripesim.NewAPI(account))
	t.Cleanup(api.Close)
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error {
		return webhooks.Fetch(webhooks.FetchOptions{})
	})
	hooktest.New(t, h, nil).Expect(t, account.Events[0].Body, 500, "")
	withKey := hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", api.URL })
	withKey.Expect(t, account.Events[0].Body, 503, "")
	withKey.Expect(t, hooktest.Event("evt_1", "unknown.thing", 1, `{"object":"unknown_thing","id":"x_1"}`), 500, "")
}
