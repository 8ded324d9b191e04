package subscriptions_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// A response that lags behind does not undo what the event itself says: that the subscription has ended.
func TestRefetchOfAnEndedSubscription(t *testing.T) {
	t.Parallel()
	account := newAccount()
	sub := account.Subscribe(stripesim.VersionBasil)
	sub.Activate()
	account.Wait(time.Minute)
	sub.Delete()
	w := newWorld(t, account, true, subscriptions.RefetchAlways)
	w.api.Lag = func() int { return 1 }
	events := subscriptionEvents(account)
	if err := w.apply(events[len(events)-1]); err != nil {
		t.Fatal(err)
	}
	if faults, err := judge.Subscriptions(t.Context(), w.host.Pool, account); err != nil || len(faults) > 0 {
		t.Errorf("%v, %v", faults, err)
	}
}

// A thin event says that the subscription has ended, and Stripe's response denies it: it is fetched again, and the delivery is
// refused while that does not help.
func TestThinEndWithALaggingResponse(t *testing.T) {
	t.Parallel()
	account := newAccount()
	account.Subscribe(stripesim.VersionBasil).Activate()
	account.Wait(time.Minute)
	account.Subscriptions[0].Delete()
	w := newWorld(t, account, true, "")
	events := subscriptionEvents(account)
	e := events[len(events)-1]
	w.failed[e.ID] = true
	w.api.Lag = func() int { return 1 }
	if reply := w.host.Send(t, e.Thin(true)); reply.Status != http.StatusServiceUnavailable {
		t.Errorf("the reply is %s", reply)
	}
	lags := []int{1, 1, 0}
	w.api.Do(func(*stripesim.Account) {
		w.api.Lag = func() int {
			lag := lags[0]
			lags = lags[1:]
			return lag
		}
	})
	w.host.Expect(t, e.Thin(true), 200, webhooks.OutcomeProcessed)
	if faults, err := judge.Subscriptions(t.Context(), w.host.Pool, account); err != nil || len(faults) > 0 {
		t.Errorf("%v, %v", faults, err)
	}
}
