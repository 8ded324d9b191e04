package entitlements_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/pook/stripeonce/entitlements"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// Whatever the order, the number and the interleaving of the events, each customer ends with Stripe's entitlements, and each
// change begins where the last one ended.
func TestConverges(t *testing.T) {
	t.Parallel()
	var api atomic.Pointer[stripesim.API]
	var events atomic.Pointer[map[string]*stripesim.Event]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if ev := (*events.Load())[strings.TrimPrefix(req.URL.Path, "/v1/events/")]; ev != nil { // however old it is
			_, _ = w.Write(ev.Body)
			return
		}
		api.Load().ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	h := webhooks.NewHandlers()
	var mu sync.Mutex
	var faults []string
	held := map[string]string{}
	entitlements.Register(h, &entitlements.Config{Logger: hooktest.NoLog(), OnChange: func(_ context.Context, tx pgx.Tx, c entitlements.Change) error {
		mu.Lock()
		defer mu.Unlock()
		if before := fmt.Sprint(sorted(c.Before)); held[c.CustomerID] != "" && before != held[c.CustomerID] {
			faults = append(faults, fmt.Sprintf("%s: a change begins with %s, where the last ended with %s", c.CustomerID, before, held[c.CustomerID]))
		}
		held[c.CustomerID] = fmt.Sprint(sorted(c.After))
		return nil
	}})
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", server.URL })
	checks, most := 0, 30
	if pgtest.Quick() {
		most = 5
	}
	rapid.Check(t, func(rt *rapid.T) {
		if checks++; checks > most {
			return
		}
		clear(held)
		pgtest.Exec(t, host.Pool, `DELETE FROM stripe_objects; DELETE FROM stripe_webhook_events`)
		account := stripesim.New(rapid.Uint64().Draw(rt, "seed"), stripesim.Epoch)
		account.Billing = true
		account.Live(stripesim.Life{Subscriptions: rapid.IntRange(1, 6).Draw(rt, "subscriptions"), Bursts: true})
		api.Store(stripesim.NewAPI(account))
		told, byID := map[string]bool{}, map[string]*stripesim.Event{}
		for _, ev := range account.Events {
			byID[ev.ID] = ev
			if parsed, err := webhooks.ParseEvent(ev.Body); err != nil {
				rt.Fatal(err)
			} else if parsed.ObjectType() == mirror.Entitlements[0] {
				told[parsed.CustomerID()] = true
			}
		}
		events.Store(&byID)
		storm := stripesim.Wild
		storm.Thin = rapid.SampledFrom([]stripesim.Thin{stripesim.SnapshotOnly, stripesim.ThinOnly, stripesim.ThinAndTwin}).Draw(rt, "thin")
		deliver(rt, host, storm.Plan(account.Seed, account.Events))
		for _, c := range account.Customers {
			got, err := entitlements.New(host.Pool).List(t.Context(), c.ID())
			if want := wanted(c, told[c.ID()]); err != nil || !slices.Equal(sorted(got), want) {
				rt.Errorf("%s has %v, want %v, %v", c.ID(), sorted(got), want, err)
			}
		}
		for _, fault := range faults {
			rt.Error(fault)
		}
	})
}

// wanted are the customer's entitlements of which there was an event.
func wanted(c *stripesim.Customer, told bool) (all []string) {
	for _, e := range c.Entitlements() {
		if told {
			all = append(all, e.ID+" "+e.FeatureID+" "+e.LookupKey)
		}
	}
	slices.Sort(all)
	return all
}

func sorted(list []entitlements.Entitlement) (all []string) {
	for _, e := range list {
		all = append(all, e.ID+" "+e.FeatureID+" "+e.LookupKey)
	}
	slices.Sort(all)
	return all
}

// deliver applies the deliveries of the summaries' events, eight at a time, and retries as Stripe does.
func deliver(rt *rapid.T, host *hooktest.Host, plan []stripesim.Delivery) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, d := range plan {
		if !strings.HasPrefix(d.Event.Type, "entitlements.") {
			continue
		}
		for range d.Times {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := apply(host, d); err != nil {
					rt.Error(err)
				}
			})
		}
	}
	wg.Wait()
}

func apply(host *hooktest.Host, d stripesim.Delivery) error {
	ev, err := webhooks.ParseEvent(d.Body())
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		if _, err = host.Receiver.Apply(context.Background(), ev); !errors.Is(err, webhooks.ErrUnavailable) || try == 20 {
			return err
		}
	}
}
