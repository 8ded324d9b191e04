package stripesim_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pook/stripeonce/stripesim"
)

// wait waits for a condition that another goroutine makes true.
func wait(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("waited for a minute until %s", what)
	}
}

// receiver answers each delivery with the status that a function returns.
func receiver(t *testing.T, status func(ev event, body []byte) int) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var ev event
		if err != nil || json.Unmarshal(body, &ev) != nil {
			return
		}
		w.WriteHeader(status(ev, body))
	}))
	t.Cleanup(server.Close)
	return server
}

// During the deliveries, the API has the objects and events as of the newest event whose delivery has begun. A receiver that
// fetches a subscription only when it is created, and ignores the later events, does not see how it ends.
func TestAPIIsAsOfTheDeliveries(t *testing.T) {
	t.Parallel()
	s := stripesim.Simulation{Seed: 2, Subscriptions: 8, Storm: stripesim.Wild, Billing: true, For: time.Nanosecond}
	account := s.NewAccount()
	ask, api := newAsker(t, account)
	var mu sync.Mutex
	var newest int64 // of the events that were begun
	fetched := map[string]any{}
	server := receiver(t, func(ev event, body []byte) int {
		mu.Lock()
		defer mu.Unlock()
		newest = max(newest, ev.Created)
		id, kind := idOf(ev.Data.Object), fmt.Sprint(ev.Data.Object["object"])
		if id == "" {
			return http.StatusOK
		}
		status, got := ask.get(pathOf(kind) + "/" + id)
		if gone := got["deleted"] == true || status == http.StatusNotFound && slices.Contains([]string{"product", "invoice", "coupon", "tax_id"}, kind); gone {
			return http.StatusOK
		}
		if status != http.StatusOK || created(got) > newest {
			t.Errorf("%s %s at %d is %d %v", ev.Type, id, newest, status, got)
		}
		if ev.Type == "customer.subscription.created" && fetched[id] == nil {
			fetched[id] = got["status"]
			_, list := ask.get("/v1/events?limit=1")
			if data, _ := list["data"].([]any); len(data) != 1 || created(data[0].(object)) > newest {
				t.Errorf("at %d the newest event is %v", newest, list)
			}
		}
		return http.StatusOK
	})
	d := &stripesim.Deliverer{URL: server.URL, Secret: "whsec_test", Concurrency: 1}
	if err := s.Run(t.Context(), api, d); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	wrong := 0
	for _, sub := range account.Subscriptions {
		if fetched[sub.ID()] != sub.Status() {
			wrong++
		}
		if _, got := ask.get("/v1/subscriptions/" + sub.ID()); got["status"] != sub.Status() {
			t.Errorf("in the end %s is %v, want %s", sub.ID(), got["status"], sub.Status())
		}
	}
	if len(fetched) != 16 || wrong < 4 {
		t.Errorf("%d of %d subscriptions end otherwise than when they were created", wrong, len(fetched))
	}
}

func created(o object) int64 {
	at, _ := o["created"].(float64)
	return int64(at)
}

// A plan that is delivered by hand holds the API's clock, too, and a deleted product is there until it is deleted.
func TestAPIOfADeliverer(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, start)
	account.Billing = true
	account.AddProduct(stripesim.VersionBasil, "kit", "First").Delete()
	account.Wait(time.Hour)
	account.AddProduct(stripesim.VersionBasil, "kit", "Second")
	account.Wait(time.Hour)
	product := account.AddProduct(stripesim.VersionBasil, "other", "Other")
	account.Wait(time.Hour)
	product.SetName("Another", "")
	account.Wait(time.Hour)
	product.Delete()
	ask, api := newAsker(t, account)
	var mu sync.Mutex
	var seen []string
	server := receiver(t, func(event, []byte) int {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range []string{"kit", "other"} {
			status, got := ask.get("/v1/products/" + id)
			seen = append(seen, fmt.Sprint(cmp.Or[any](got["name"], status)))
		}
		return http.StatusOK
	})
	d := &stripesim.Deliverer{URL: server.URL, Secret: "whsec_test", API: api, Concurrency: 1}
	var plan []stripesim.Delivery
	for _, ev := range account.Events[1:] {
		plan = append(plan, stripesim.Delivery{Event: ev, Times: 1})
	}
	if err := d.Deliver(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(seen, " "); got != "404 404 Second 404 Second Other Second Another Second 404" {
		t.Errorf("the products are %s", got)
	}
}

// A delivery that waits for its next attempt holds no slot.
func TestRetriesHoldNoSlot(t *testing.T) {
	t.Parallel()
	account := grown(1, stripesim.Life{Subscriptions: 10})
	others := make(chan struct{})
	var mu sync.Mutex
	fine := map[string]bool{}
	bad := account.Events[0].ID
	server := receiver(t, func(ev event, _ []byte) int {
		if ev.ID == bad {
			return http.StatusInternalServerError
		}
		mu.Lock()
		defer mu.Unlock()
		if fine[ev.ID] = true; len(fine) == len(account.Events)-1 {
			close(others)
		}
		return http.StatusOK
	})
	ctx, cancel := context.WithCancel(t.Context())
	d := &stripesim.Deliverer{URL: server.URL, Secret: "whsec_test", Concurrency: 1, Pauses: []time.Duration{time.Hour}}
	done := make(chan error, 1)
	plan := stripesim.Storm{Disorder: 1}.Plan(1, account.Events)
	go func() { done <- d.Deliver(ctx, plan) }()
	wait(t, "all others were delivered while one waits an hour", others)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the interrupted deliveries end with %v", err)
	}
	if r := d.Report(); r.Completed >= r.Deliveries || r.Completed == 0 || len(r.Refused) != 0 {
		t.Errorf("the report is %+v", r)
	}
}

// Without disorder, each delivery of a subscription begins when the one before it was accepted.
func TestNoneIsInOrder(t *testing.T) {
	t.Parallel()
	account := grown(3, stripesim.Life{Subscriptions: 15, Bursts: true})
	var mu sync.Mutex
	attempts, order := map[string]int{}, map[string][]string{}
	subscription := map[string]string{}
	for _, ev := range account.Events {
		subscription[ev.ID] = ev.SubscriptionID
	}
	server := receiver(t, func(ev event, _ []byte) int {
		mu.Lock()
		defer mu.Unlock()
		attempts[ev.ID]++
		if attempts[ev.ID] == 1 && len(attempts)%3 == 0 {
			return http.StatusInternalServerError
		}
		id := subscription[ev.ID]
		order[id] = append(order[id], ev.ID)
		return http.StatusOK
	})
	d := &stripesim.Deliverer{URL: server.URL, Secret: "whsec_test", Pauses: []time.Duration{time.Millisecond}}
	if err := d.Deliver(t.Context(), stripesim.None.Plan(1, account.Events)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	want := map[string][]string{}
	for _, ev := range account.Events {
		want[ev.SubscriptionID] = append(want[ev.SubscriptionID], ev.ID)
	}
	if !reflect.DeepEqual(order, want) || d.Report().Retried < 10 {
		t.Errorf("they are accepted in another order, with %d retries", d.Report().Retried)
	}
}

// Deliveries that all fail as with a wrong URL or secret end early, but only if the endpoint never answered otherwise.
func TestStopAfter(t *testing.T) {
	t.Parallel()
	account := grown(1, stripesim.Life{Subscriptions: 30})
	plan := stripesim.Default.Plan(1, account.Events)
	gone := httptest.NewServer(nil)
	gone.Close()
	moved := httptest.NewServer(http.RedirectHandler("/webhooks/", http.StatusMovedPermanently))
	defer moved.Close()
	refusing := receiver(t, func(event, []byte) int { return http.StatusBadRequest })
	for url, want := range map[string]string{gone.URL: "connection refused", moved.URL: "301 to /webhooks/", refusing.URL: "answered 400"} {
		d := &stripesim.Deliverer{URL: url, Secret: "whsec_test", StopAfter: 20, Pauses: []time.Duration{time.Hour}}
		var stopped *stripesim.NotReceivingError
		err := d.Deliver(t.Context(), plan)
		if !errors.As(err, &stopped) || stopped.Attempts < 20 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s ends with %v, want %s", url, err, want)
		}
	}
	picky := receiver(t, func(ev event, _ []byte) int {
		if strings.HasPrefix(ev.Type, "invoice.") {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	d := &stripesim.Deliverer{URL: picky.URL, Secret: "whsec_test", StopAfter: 20, Pauses: []time.Duration{}}
	if err := d.Deliver(t.Context(), plan); err != nil || len(d.Report().Refused) < 50 {
		t.Errorf("a receiver that refuses invoices: %v, %d events are refused", err, len(d.Report().Refused))
	}
}

// An event is refused if none of its deliveries was accepted. It is in the report once.
func TestReport(t *testing.T) {
	t.Parallel()
	account := grown(1, stripesim.Life{Subscriptions: 20})
	never, once := account.Events[3].ID, account.Events[5].ID
	var mu sync.Mutex
	seen := map[string]int{}
	server := receiver(t, func(ev event, _ []byte) int {
		mu.Lock()
		defer mu.Unlock()
		seen[ev.ID]++
		if ev.ID == never || ev.ID == once && seen[ev.ID] > 1 {
			return http.StatusTeapot
		}
		return http.StatusOK
	})
	d := &stripesim.Deliverer{URL: server.URL, Secret: "whsec_test", Pauses: []time.Duration{}}
	plan := stripesim.Storm{Disorder: 1, Window: 2}.Plan(1, account.Events)
	plan = append(plan, stripesim.Delivery{Event: account.Events[3], Times: 2}, stripesim.Delivery{Event: account.Events[5], Times: 3})
	if err := d.Deliver(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	r := d.Report()
	if !slices.Equal(r.Refused, []stripesim.Refused{{EventID: never, EventType: account.Events[3].Type, Answer: "418"}}) ||
		r.GivenUp != 6 || r.Accepted != len(account.Events)-1 || r.Completed != len(account.Events)+5 || len(r.Outcomes) != 0 {
		t.Errorf("the report is %+v", r)
	}
}

// A response needs only its status: a 200 whose body breaks off is accepted. One that is too late has failed.
func TestResponses(t *testing.T) {
	t.Parallel()
	account := grown(1, stripesim.Life{Subscriptions: 1})
	plan := stripesim.None.Plan(1, account.Events[:1])
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("half"))
	}))
	defer cut.Close()
	d := &stripesim.Deliverer{URL: cut.URL, Secret: "whsec_test", Pauses: []time.Duration{}}
	if err := d.Deliver(t.Context(), plan); err != nil || d.Report().Accepted != 1 || d.Report().Unanswered != 0 {
		t.Errorf("a body that breaks off: %v, %+v", err, d.Report())
	}
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer slow.Close()
	defer close(release)
	d = &stripesim.Deliverer{URL: slow.URL, Secret: "whsec_test", Pauses: []time.Duration{}, Timeout: time.Millisecond}
	if err := d.Deliver(t.Context(), plan); err != nil || d.Report().Unanswered != 1 || len(d.Report().Refused) != 1 {
		t.Errorf("a response that is too late: %v, %+v", err, d.Report())
	}
}

// Settings with which nothing can be delivered are errors at once.
func TestWrongUse(t *testing.T) {
	t.Parallel()
	account := grown(1, stripesim.Life{Subscriptions: 1})
	plan := stripesim.None.Plan(1, account.Events)
	const url, secret = "http://127.0.0.1:9", "whsec_test"
	for want, c := range map[string]struct {
		d    *stripesim.Deliverer
		plan []stripesim.Delivery
	}{
		"Deliverer.URL":         {&stripesim.Deliverer{Secret: secret}, plan},
		"Deliverer.Secret":      {&stripesim.Deliverer{URL: url}, plan},
		"Deliverer.Concurrency": {&stripesim.Deliverer{URL: url, Secret: secret, Concurrency: -1}, plan},
		"Deliverer.Rate":        {&stripesim.Deliverer{URL: url, Secret: secret, Rate: -1}, plan},
		"thin form":             {&stripesim.Deliverer{URL: url, Secret: secret}, []stripesim.Delivery{{Event: &stripesim.Event{}, Times: 1, Form: stripesim.ThinNamed}}},
		"needs an Event":        {&stripesim.Deliverer{URL: url, Secret: secret}, []stripesim.Delivery{{}}},
	} {
		if err := c.d.Deliver(t.Context(), c.plan); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if account.Play(nil, 3) != nil {
		t.Error("no life cycles have events")
	}
	stripesim.Storm{Disorder: 1, Window: -1}.Plan(1, account.Events)
	for _, other := range []stripesim.Simulation{{Seed: 2}, {Seed: 1, Connect: true}, {Seed: 1, APIVersion: stripesim.VersionBasil}, {Seed: 1, Billing: true}} {
		d := &stripesim.Deliverer{URL: url, Secret: secret}
		if err := other.Run(t.Context(), stripesim.NewAPI(account), d); err == nil || !strings.Contains(err.Error(), "Simulation.NewAccount") {
			t.Errorf("another simulation's account: %v", err)
		}
	}
}

// The zero storm of a simulation is Default.
func TestDefaultStorm(t *testing.T) {
	t.Parallel()
	server := receiver(t, func(event, []byte) int { return http.StatusOK })
	plan := func(storm stripesim.Storm) (text bytes.Buffer) {
		s := stripesim.Simulation{Seed: 1, Subscriptions: 5, Storm: storm, Planned: func(plan []stripesim.Delivery) {
			for _, d := range plan {
				fmt.Fprintln(&text, d.Event.ID, d.Times, d.Form, d.InOrder)
			}
		}}
		if err := s.Run(t.Context(), stripesim.NewAPI(s.NewAccount()), &stripesim.Deliverer{URL: server.URL, Secret: "whsec_test"}); err != nil {
			t.Fatal(err)
		}
		return text
	}
	zero, usual, none := plan(stripesim.Storm{}), plan(stripesim.Default), plan(stripesim.None)
	if !bytes.Equal(zero.Bytes(), usual.Bytes()) || bytes.Equal(none.Bytes(), usual.Bytes()) {
		t.Error("the zero storm is not Default")
	}
}
