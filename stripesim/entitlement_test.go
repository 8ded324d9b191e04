package stripesim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/stripesim"
)

func keysOf(list []stripesim.Entitlement) (keys []string) {
	for _, e := range list {
		keys = append(keys, e.LookupKey)
	}
	return keys
}

// A customer is entitled to the features of the products of active, trialing and past due subscriptions. Each change by a
// subscription makes one event. A change of the catalog makes none.
func TestEntitlements(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, start)
	account.Billing = true
	sub := account.Subscribe(stripesim.VersionBasil)
	c := sub.CustomerObject()
	events := func(change func()) (n int) {
		before := len(account.Events)
		change()
		for _, eventType := range typesSince(account, before) {
			if strings.HasPrefix(eventType, "entitlements.") {
				n++
			}
		}
		return n
	}
	product := account.Products[0]
	sso := account.AddFeature("sso", "Single sign-on")
	var kept stripesim.Entitlement
	for i, step := range []struct {
		change       func()
		events, want int
	}{
		{func() {}, 0, 0},
		{sub.Activate, 1, 3},
		{func() { account.AttachFeature(product, sso) }, 0, 4},
		{func() { account.AttachFeature(product, sso) }, 0, 4},
		{sub.FailPayment, 0, 4},
		{sub.MarkUnpaid, 1, 0},
		{sub.Activate, 1, 4},
		{func() { account.DetachFeature(product, sso) }, 0, 3},
		{func() { kept = c.Entitlements()[1] }, 0, 3},
		{func() { sub.Upgrade(2) }, 1, 14},
		{sub.AddItem, 1, 15},
		{sub.RemoveItem, 1, 14},
		{func() { c.Subscribe().Activate() }, 0, 14}, // to what the customer has already
		{sub.Delete, 1, 3},
		{c.Delete, 1, 0},
	} {
		if n := events(step.change); n != step.events || len(c.Entitlements()) != step.want {
			t.Errorf("step %d made %d events, and the customer has %v", i, n, keysOf(c.Entitlements()))
		}
		if step.want == 15 && !slices.Contains(c.Entitlements(), kept) {
			t.Errorf("%v is not the same after the upgrade: %v", kept, c.Entitlements())
		}
	}
	if sso.SetActive(false); events(func() { account.AttachFeature(product, sso) }) != 0 || len(c.Entitlements()) != 0 {
		t.Error("an archived feature was attached")
	}
}

// The events list the first ten entitlements, the truth all of them.
func TestEntitlementSummaries(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	account := billed(3)
	last, seconds, most := map[string]object{}, map[string]int{}, 0
	for _, e := range account.Events {
		if ev := decode(t, e.Body); ev.Type == "entitlements.active_entitlement_summary.updated" {
			customer, _ := ev.Data.Object["customer"].(string)
			last[customer] = ev.Data.Object
			at := fmt.Sprint(customer, ev.Created)
			seconds[at]++
			most = max(most, seconds[at])
			if ev.Data.Previous != nil || e.ObjectID != "" {
				t.Errorf("%s has previous attributes, or an id", e.ID)
			}
		}
	}
	truth, long := wholeSummaries(t, account), 0
	for _, c := range account.Customers {
		listed := last[c.ID()]
		if listed == nil {
			if len(c.Entitlements()) > 0 {
				t.Errorf("%s has entitlements without an event", c.ID())
			}
			continue
		}
		list, _ := listed["entitlements"].(object)
		data, _ := list["data"].([]any)
		all := c.Entitlements()
		if len(data) != min(10, len(all)) || list["has_more"] != (len(all) > 10) || list["url"] != "/v1/customer/"+c.ID()+"/entitlements" {
			t.Errorf("the event lists %d of %d: %v", len(data), len(all), list)
		}
		if len(all) > 10 {
			long++
		}
		for i, e := range all {
			if i < len(data) && idOf(data[i]) != e.ID || truth[c.ID()][i] != e.ID {
				t.Errorf("%s: %v is not number %d", c.ID(), e, i)
			}
		}
	}
	if most < 2 || long < 3 {
		t.Errorf("at most %d events in a second, %d customers with more than ten", most, long)
	}
}

// wholeSummaries returns the ids of the entitlements in the truth, by customer.
func wholeSummaries(t *testing.T, account *stripesim.Account) map[string][]string {
	t.Helper()
	var text bytes.Buffer
	if err := stripesim.WriteTruth(&text, account); err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(text.String()) {
		var o struct {
			Object, Customer string
			Entitlements     struct {
				Data []struct{ ID string }
			}
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil && strings.Contains(line, summaryType) {
			t.Fatal(err)
		}
		for _, e := range o.Entitlements.Data {
			all[o.Customer] = append(all[o.Customer], e.ID)
		}
	}
	return all
}

// The API lists a customer's entitlements in pages, as of its clock, and the features.
func TestEntitlementsAPI(t *testing.T) {
	t.Parallel()
	account := stripesim.New(2, start)
	sub := account.Subscribe(stripesim.VersionBasil)
	sub.Activate()
	account.Wait(time.Hour)
	sub.Upgrade(1)
	ask, _ := newAsker(t, account)
	const path = "/v1/entitlements/active_entitlements"
	var got []string
	for _, o := range ask.all(path, url.Values{"customer": {sub.Customer()}, "limit": {"5"}}) {
		got = append(got, fmt.Sprint(o["id"], o["feature"], o["lookup_key"]))
	}
	var want []string
	for _, e := range sub.CustomerObject().Entitlements() {
		want = append(want, e.ID+e.FeatureID+e.LookupKey)
	}
	if !slices.Equal(got, want) || len(got) != 14 {
		t.Errorf("the API lists %v, want %v", got, want)
	}
	for query, message := range map[string]string{"": "Missing required param: customer.", "?customer=cus_nobody": "No such customer: 'cus_nobody'"} {
		if status, body := ask.get(path + query); status != http.StatusBadRequest || body["error"].(object)["message"] != message {
			t.Errorf("%q is answered %d %v", query, status, body)
		}
	}
	if status, one := ask.get(path + "/" + sub.CustomerObject().Entitlements()[3].ID); status != http.StatusOK || one["lookup_key"] != sub.CustomerObject().Entitlements()[3].LookupKey {
		t.Errorf("one entitlement is %d %v", status, one)
	}
	features := ask.all("/v1/entitlements/features", url.Values{})
	if len(features) != len(account.Features) || len(features) != 15 {
		t.Errorf("%d features are listed", len(features))
	}
	account.Features[0].SetActive(false)
	account.Features[0].SetName("Old projects")
	status, one := ask.get("/v1/entitlements/features/" + account.Features[0].ID())
	if status != http.StatusOK || one["active"] != false || one["name"] != "Old projects" || one["lookup_key"] != account.Features[0].LookupKey() {
		t.Errorf("the feature is %d %v", status, one)
	}
	for query, n := range map[string]int{"archived=true": 1, "archived=false": 14, "lookup_key=roles": 1} {
		values, _ := url.ParseQuery(query)
		if list := ask.all("/v1/entitlements/features", values); len(list) != n {
			t.Errorf("%s lists %d features", query, len(list))
		}
	}
}
