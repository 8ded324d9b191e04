package subscriptions_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// applyBody applies a delivery's body, and retries as Stripe does. It returns the last outcome.
func (w *world) applyBody(body []byte) (webhooks.Outcome, error) {
	ev, err := webhooks.ParseEvent(body)
	if err != nil {
		return "", err
	}
	for try := 0; ; try++ {
		result, err := w.host.Receiver.Apply(context.Background(), ev)
		if err == nil || try == 9 {
			return result.Outcome, err
		}
	}
}

// deliverBodies applies bodies, several at a time.
func (w *world) deliverBodies(bodies [][]byte, clients int) error {
	queue := make(chan []byte, len(bodies))
	for _, body := range bodies {
		queue <- body
	}
	close(queue)
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() {
			for body := range queue {
				if _, err := w.applyBody(body); err != nil {
					errs[i] = errors.Join(errs[i], err)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// bodies returns each event twice, in the drawn forms.
func bodies(rt *rapid.T, events []*stripesim.Event, both bool) (list [][]byte) {
	for _, e := range events {
		for n := range 2 {
			form := stripesim.Form(rapid.IntRange(int(stripesim.ThinNamed), int(stripesim.ThinUnnamed)).Draw(rt, "form"))
			if both && n == 0 {
				form = stripesim.Snapshot
			}
			list = append(list, stripesim.Delivery{Event: e, Form: form}.Body())
		}
	}
	return rapid.Permutation(list).Draw(rt, "arrival")
}

// Thin events, alone or together with their snapshot events, converge to Stripe's objects, and each takes effect once. The
// API answers 429 and 500 now and then, or too slowly, and the subscription changes while it is fetched, and in the second of the answer.
func TestThinHistoriesConverge(t *testing.T) {
	t.Parallel()
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprintf("with snapshot events: %t", both), func(t *testing.T) {
			t.Parallel()
			account := &stripesim.Account{}
			w := newWorldWith(t, account, true, "", func(c *webhooks.Config) { c.FetchTimeout = 500 * time.Millisecond })
			rapid.Check(t, func(rt *rapid.T) {
				*account = *stripesim.New(rapid.Uint64().Draw(rt, "seed"), stripesim.Epoch)
				account.Connected = []string{"acct_1", "acct_2"}
				steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 6).Draw(rt, "life")
				lead(account, steps)
				later := rapid.SliceOfN(rapid.Custom(drawStep), 0, 3).Draw(rt, "changes while it is fetched")
				sub := account.Subscriptions[0]
				w.api.OnRequest = func(req *http.Request) {
					if len(later) > 0 && req.URL.Path == "/v1/subscriptions/"+sub.ID() {
						if later[0].wait {
							account.Wait(time.Hour)
						}
						sub.Step(later[0].n)
						later = later[1:]
					}
				}
				for range rapid.IntRange(0, 3).Draw(rt, "faults") {
					w.api.Fail(stripesim.Fault{Status: rapid.SampledFrom([]int{429, 500, 503}).Draw(rt, "status"), Pass: rapid.IntRange(0, 3).Draw(rt, "pass")})
				}
				if rapid.IntRange(0, 9).Draw(rt, "slow") == 0 { // slower than the receiver waits
					w.api.Fail(stripesim.Fault{Hang: true, Pass: rapid.IntRange(0, 3).Draw(rt, "pass")})
				}
				clients := rapid.IntRange(1, 4).Draw(rt, "clients")
				seen := len(account.Events)
				if err := w.deliverBodies(bodies(rt, account.Events, both), clients); err != nil {
					rt.Fatal(err)
				}
				w.api.Do(func(*stripesim.Account) { // in the second of the last answer, or later
					w.api.OnRequest = nil
					for _, s := range rapid.SliceOfN(rapid.Custom(drawStep), 0, 3).Draw(rt, "changes after it was fetched") {
						if s.wait {
							account.Wait(time.Hour)
						}
						sub.Step(s.n)
					}
				})
				if more := account.Events[seen:]; len(more) > 0 {
					if err := w.deliverBodies(bodies(rt, more, both), clients); err != nil {
						rt.Fatal(err)
					}
				}
				faults, err := w.faults(account)
				if err != nil {
					rt.Fatal(err)
				}
				if len(faults) > 0 {
					rt.Errorf("%s\nends with\n%v", describe(account.Events), faults)
				}
				w.reset(t)
			})
			t.Logf("%d requests to Stripe", w.api.Count())
		})
	}
}

// A part of Stripe that lags behind gives an old object, and one that has forgotten an object gives none. Each event takes
// effect once all the same, and the changes are a chain. Verify repairs what the last answer got wrong.
func TestThinHistoriesWithALaggingAPI(t *testing.T) {
	t.Parallel()
	account := &stripesim.Account{}
	w := newWorld(t, account, true, "")
	rapid.Check(t, func(rt *rapid.T) {
		*account = *stripesim.New(rapid.Uint64().Draw(rt, "seed"), stripesim.Epoch)
		lead(account, rapid.SliceOfN(rapid.Custom(drawStep), 1, 6).Draw(rt, "life"))
		lags := rapid.SliceOfN(rapid.IntRange(-1, 3), 0, 12).Draw(rt, "lags")
		w.api.Lag = func() int {
			if len(lags) == 0 {
				return 0
			}
			lag := lags[0]
			lags = lags[1:]
			return lag
		}
		list := bodies(rt, account.Events, rapid.Bool().Draw(rt, "with snapshot events"))
		clients := rapid.IntRange(1, 3).Draw(rt, "clients")
		if err := w.deliverBodies(list, clients); err != nil {
			rt.Fatal(err)
		}
		w.api.Do(func(*stripesim.Account) { w.api.Lag = nil })
		// Events whose object Stripe had forgotten were ignored: a later delivery applies them.
		if err := w.deliverBodies(list, clients); err != nil {
			rt.Fatal(err)
		}
		if n := pgtest.Scan[int](t, w.host.Pool, `SELECT count(*)::int FROM stripe_webhook_events WHERE outcome = 'ignored' AND event_type NOT LIKE 'v1.%'`); n != 0 {
			rt.Errorf("%d events are ignored", n)
		}
		// The row of a thin event that was ignored stays beside that of its twin, which took effect by itself.
		pgtest.Exec(t, w.host.Pool, `DELETE FROM stripe_webhook_events WHERE outcome = 'ignored'`)
		config := &subscriptions.VerifyConfig{
			APIKey: "sk_test_1", APIBase: w.apiBase, Fix: w.host.Receiver, Projection: w.projection, Rate: 10_000,
		}
		if _, err := subscriptions.Verify(context.Background(), w.host.Pool, config); err != nil {
			rt.Fatal(err)
		}
		faults, err := w.faults(account)
		if err != nil {
			rt.Fatal(err)
		}
		if len(faults) > 0 {
			rt.Errorf("%s\nends with\n%v", describe(account.Events), faults)
		}
		w.reset(t)
	})
}
