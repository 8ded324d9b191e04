package stripesim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/pook/stripeonce/stripesim"
)

// A life by hand. Events without a Wait in between are of the same second.
func ExampleAccount() {
	account := stripesim.New(1, stripesim.Epoch)
	sub := account.Subscribe(stripesim.VersionBasil)
	account.Wait(time.Second)
	sub.Activate()
	account.Wait(24 * time.Hour)
	sub.CancelAtPeriodEnd(true)
	for _, ev := range account.Events {
		fmt.Println(time.Unix(ev.Created, 0).UTC().Format(time.DateTime), ev.Type)
	}
	fmt.Println("in the end:", sub.Truth().Status, sub.Truth().CancelAtPeriodEnd)
	// Output:
	// 2024-01-01 09:00:00 customer.subscription.created
	// 2024-01-01 09:00:01 invoice.paid
	// 2024-01-01 09:00:01 customer.subscription.updated
	// 2024-01-02 09:00:01 customer.subscription.updated
	// in the end: active true
}

// A life cycle of your own, played by two subscriptions.
func ExampleScenario() {
	winBack := stripesim.Scenario{
		Name:  "win-back",
		Begin: func(a *stripesim.Account) *stripesim.Subscription { return a.Subscribe(stripesim.VersionBasil) },
		Steps: []stripesim.Step{
			{After: time.Second, Do: (*stripesim.Subscription).Activate},
			{After: 5 * 24 * time.Hour, Do: func(s *stripesim.Subscription) { s.CancelAtPeriodEnd(true) }},
			{After: 24 * time.Hour, Do: func(s *stripesim.Subscription) { s.CancelAtPeriodEnd(false); s.AddDiscount() }},
		},
	}
	account := stripesim.New(1, stripesim.Epoch)
	events := account.Play([]stripesim.Scenario{winBack}, 2)
	fmt.Println(len(events), "events of", len(account.Subscriptions), "subscriptions")
	// Output: 12 events of 2 subscriptions
}

// A receiver that counts effects without looking whether it knows the event.
func ExampleSimulation() {
	var mu sync.Mutex
	effects := map[string]int{}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		var ev struct{ ID, Type string }
		if json.NewDecoder(req.Body).Decode(&ev) == nil && ev.Type == "invoice.paid" {
			mu.Lock()
			defer mu.Unlock()
			effects[ev.ID]++
		}
	}))
	defer receiver.Close()

	s := stripesim.Simulation{Seed: 1, Subscriptions: 50}
	d := &stripesim.Deliverer{URL: receiver.URL, Secret: "whsec_test"}
	if err := s.Run(context.Background(), stripesim.NewAPI(s.NewAccount()), d); err != nil {
		fmt.Println(err)
	}
	twice := 0
	for _, n := range effects {
		if n > 1 {
			twice++
		}
	}
	report := d.Report()
	fmt.Printf("%d events in %d deliveries, %d never accepted\n", report.Events, report.Deliveries, len(report.Refused))
	fmt.Printf("%d of %d invoices paid twice or more\n", twice, len(effects))
	// Output:
	// 522 events in 903 deliveries, 0 never accepted
	// 24 of 90 invoices paid twice or more
}

// A storm of your own, its deliveries, and the truth to compare the receiver's tables with.
func ExampleStorm() {
	account := stripesim.New(1, stripesim.Epoch)
	sub := account.Subscribe(stripesim.VersionBasil)
	account.Wait(time.Second)
	sub.Activate()

	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	storm := stripesim.Storm{Disorder: 1, Window: 2, Duplicates: 1, MaxDuplicates: 2}
	d := &stripesim.Deliverer{URL: receiver.URL, Secret: "whsec_test", API: stripesim.NewAPI(account)}
	if err := d.Deliver(context.Background(), storm.Plan(1, account.Events)); err != nil {
		fmt.Println(err)
	}
	fmt.Println(d.Report().Events, "events,", d.Report().Statuses[http.StatusOK], "deliveries accepted")
	var truth strings.Builder
	if err := stripesim.WriteTruth(&truth, account); err != nil {
		fmt.Println(err)
	}
	for line := range strings.Lines(truth.String()) {
		var o struct{ Object, Status string }
		fmt.Println(json.Unmarshal([]byte(line), &o), o.Object, o.Status)
	}
	// Output:
	// 3 events, 6 deliveries accepted
	// <nil> subscription active
	// <nil> invoice paid
}

// A mirror of every object is compared with the account's objects.
func ExampleAccount_Objects() {
	account := stripesim.New(1, stripesim.Epoch)
	account.Billing = true
	sub := account.Subscribe(stripesim.VersionBasil)
	sub.Activate()
	account.Wait(30 * 24 * time.Hour)
	before := len(account.Events)
	sub.Renew()
	for _, ev := range account.Events[before:] {
		fmt.Println(ev.Type)
	}
	sub.CustomerObject().Delete()
	for _, o := range account.Objects() {
		var state struct{ Status string }
		if err := json.Unmarshal(o.In(stripesim.VersionBasil), &state); err != nil {
			fmt.Println(err)
		}
		if o.CustomerID == sub.Customer() || o.Deleted {
			fmt.Println(o.Type, state.Status, o.Deleted)
		}
	}
	// Output:
	// customer.subscription.updated
	// invoice.created
	// invoice.updated
	// invoice.finalized
	// payment_intent.created
	// charge.succeeded
	// payment_intent.succeeded
	// invoice.updated
	// invoice.paid
	// invoice.payment_succeeded
	// subscription canceled false
	// customer  true
	// entitlements.active_entitlement_summary  false
	// invoice paid false
	// payment_intent succeeded false
	// charge succeeded false
	// invoice paid false
	// payment_intent succeeded false
	// charge succeeded false
}

// The API, for a receiver that fetches objects. It takes any key, unless there is a Key.
func ExampleNewAPI() {
	account := stripesim.New(1, stripesim.Epoch)
	sub := account.Subscribe(stripesim.VersionBasil)
	api := httptest.NewServer(stripesim.NewAPI(account))
	defer api.Close()

	req, err := http.NewRequest(http.MethodGet, api.URL+"/v1/subscriptions/"+sub.ID(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("Authorization", "Bearer sk_test_any")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var got struct{ Object, Status string }
	fmt.Println(err, json.Unmarshal(body, &got), resp.StatusCode, got.Object, got.Status)
	// Output: <nil> <nil> 200 subscription incomplete
}
