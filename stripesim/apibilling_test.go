package stripesim_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/stripesim"
)

// asker asks an API as a program without Stripe's client does.
type asker struct {
	t       *testing.T
	url     string
	version string
	account string
}

func newAsker(t *testing.T, account *stripesim.Account) (*asker, *stripesim.API) {
	t.Helper()
	api := stripesim.NewAPI(account)
	api.CountOnly = true
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	return &asker{t: t, url: server.URL, version: stripesim.VersionBasil}, api
}

func (a *asker) get(path string) (int, object) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.url+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Stripe-Version", a.version)
	if a.account != "" {
		req.Header.Set("Stripe-Account", a.account)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var o object
	if err != nil || json.Unmarshal(text, &o) != nil || resp.Header.Get("Date") == "" {
		a.t.Fatalf("%s: %v, %s", path, err, text)
	}
	return resp.StatusCode, o
}

// all reads every page of a list.
func (a *asker) all(path string, query url.Values) (all []object) {
	a.t.Helper()
	for more := true; more; {
		status, list := a.get(path + "?" + query.Encode())
		if status != http.StatusOK {
			a.t.Fatalf("%s: %d %v", path, status, list)
		}
		data, _ := list["data"].([]any)
		for _, one := range data {
			o, _ := one.(object)
			all = append(all, o)
			query.Set("starting_after", idOf(o))
		}
		more, _ = list["has_more"].(bool)
	}
	return all
}

// pathOf returns where the API has objects of a type.
func pathOf(kind string) string {
	if kind == "checkout.session" {
		return "/v1/checkout/sessions"
	}
	return "/v1/" + kind + "s"
}

// Lists and single objects are as the truth says, in both versions and for connected accounts. Deleted objects are not listed.
func TestBillingAPI(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	account := billed(4)
	ask, _ := newAsker(t, account)
	kinds := []string{
		"customer", "product", "price", "invoice", "coupon", "promotion_code", "credit_note", "subscription_schedule", "charge", "payment_intent",
		"setup_intent", "refund", "dispute", "checkout.session", "payout",
	}
	for _, ask.account = range []string{"", "acct_1A"} {
		for _, ask.version = range []string{stripesim.VersionBeforeBasil, stripesim.VersionBasil} {
			want := map[string][]object{}
			for _, o := range account.Objects() {
				if o.AccountID != ask.account || o.Type == "subscription" || o.Type == summaryType {
					continue
				}
				var truth object
				if err := json.Unmarshal(o.In(ask.version), &truth); err != nil {
					t.Fatal(err)
				}
				wantStatus := http.StatusOK
				if !o.Deleted {
					want[o.Type] = append(want[o.Type], truth)
				} else if o.Type != "customer" {
					wantStatus = http.StatusNotFound
				}
				if len(want[o.Type])%5 > 0 && !o.Deleted { // some are enough
					continue
				}
				status, got := ask.get(pathOf(o.Type) + "/" + o.ID)
				if status != wantStatus || status == http.StatusOK && !reflect.DeepEqual(got, truth) {
					t.Errorf("%s is %d %v", o.ID, status, got)
				}
			}
			for _, kind := range kinds {
				slices.Reverse(want[kind])
				if got := ask.all(pathOf(kind), url.Values{"limit": {"17"}}); !reflect.DeepEqual(got, want[kind]) || len(got) == 0 {
					t.Errorf("%d %ss are listed, want %d", len(got), kind, len(want[kind]))
				}
			}
		}
	}
}

// The filters of lists work.
func TestBillingFilters(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	account := billed(4)
	ask, _ := newAsker(t, account)
	var sub *stripesim.Subscription
	for _, one := range account.Subscriptions {
		if one.AccountID == "" && len(one.Invoices()) > 1 {
			sub = one
		}
	}
	var o struct{ Created int64 }
	if err := json.Unmarshal(sub.Invoices()[0].Object(), &o); err != nil {
		t.Fatal(err)
	}
	number := func(fits func(object) bool) (n int) {
		for _, i := range ask.all("/v1/invoices", url.Values{"limit": {"100"}}) {
			if fits(i) {
				n++
			}
		}
		return n
	}
	created := func(i object) int64 {
		at, _ := i["created"].(float64)
		return int64(at)
	}
	subscriptionOf := func(i object) any {
		parent, _ := i["parent"].(object)
		details, _ := parent["subscription_details"].(object)
		return details["subscription"]
	}
	at := fmt.Sprint(o.Created)
	for query, fits := range map[string]func(object) bool{
		"customer=" + sub.Customer(): func(i object) bool { return i["customer"] == sub.Customer() },
		"subscription=" + sub.ID():   func(i object) bool { return subscriptionOf(i) == sub.ID() },
		"status=open":                func(i object) bool { return i["status"] == "open" },
		"created[gte]=" + at:         func(i object) bool { return created(i) >= o.Created },
		"created[gt]=" + at:          func(i object) bool { return created(i) > o.Created },
		"created[lte]=" + at:         func(i object) bool { return created(i) <= o.Created },
		"created[lt]=" + at:          func(i object) bool { return created(i) < o.Created },
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(ask.all("/v1/invoices", values)), number(fits); got != want || got == 0 {
			t.Errorf("%s lists %d invoices, want %d", query, got, want)
		}
	}
	price := account.Prices[0]
	price.SetLookupKey("only")
	if got := ask.all("/v1/prices", url.Values{"lookup_keys[]": {"only"}}); len(got) != 1 || idOf(got[0]) != price.ID() {
		t.Errorf("the prices of a lookup key are %v", got)
	}
	status, list := ask.get("/v1/invoices?limit=2&ending_before=" + idOf(ask.all("/v1/invoices", url.Values{"limit": {"100"}})[2]))
	if data, _ := list["data"].([]any); status != http.StatusOK || len(data) != 2 || list["has_more"] != false {
		t.Errorf("before the third invoice are %v", list)
	}
}

// The lines of an invoice come in pages, in both versions.
func TestInvoiceLines(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, start)
	account.Billing = true
	invoice := account.AddCustomer(stripesim.VersionBasil).AddInvoice(25)
	ask, _ := newAsker(t, account)
	for _, ask.version = range []string{stripesim.VersionBeforeBasil, stripesim.VersionBasil} {
		var whole struct {
			Lines struct {
				Data []object
				URL  string
			}
		}
		objects := account.Objects()
		if err := json.Unmarshal(objects[len(objects)-1].Whole(ask.version), &whole); err != nil {
			t.Fatal(err)
		}
		got := ask.all(whole.Lines.URL, url.Values{})
		_, first := ask.get(whole.Lines.URL)
		if data, _ := first["data"].([]any); len(data) != 10 || first["has_more"] != true {
			t.Errorf("the first page has %d lines", len(data))
		}
		if !reflect.DeepEqual(got, whole.Lines.Data) || len(got) != 25 {
			t.Errorf("the pages have %d lines", len(got))
		}
	}
	if invoice.Delete(); !invoice.Deleted() {
		t.Error("a draft is not deleted")
	}
	for _, path := range []string{"/v1/invoices/" + invoice.ID(), "/v1/invoices/" + invoice.ID() + "/lines", "/v1/invoices/in_nobody/lines"} {
		if status, _ := ask.get(path); status != http.StatusNotFound {
			t.Errorf("%s of a deleted invoice: %d", path, status)
		}
	}
}

// Lag and faults are for every object.
func TestBillingLag(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, start)
	ask, api := newAsker(t, account)
	customer := account.AddCustomer(stripesim.VersionBasil)
	account.Wait(time.Hour)
	customer.SetName("Ada", "ada@example.com")
	customer.SetName("Bob", "bob@example.com")
	customer.Delete()
	path := "/v1/customers/" + customer.ID()
	for lag, want := range map[int]any{0: nil, 1: "Bob", 2: "Ada"} {
		api.Lag = func() int { return lag }
		if status, got := ask.get(path); status != http.StatusOK || got["name"] != want {
			t.Errorf("%d changes behind the customer is %d %v", lag, status, got)
		}
	}
	api.Lag = func() int { return -1 }
	if status, _ := ask.get(path); status != http.StatusNotFound {
		t.Errorf("a customer who is not found yet: %d", status)
	}
	api.Fail(stripesim.Fault{Status: http.StatusInternalServerError, Path: path})
	if status, _ := ask.get(path); status != http.StatusInternalServerError {
		t.Errorf("a fault: %d", status)
	}
}

// Thin events name their object's URL, where the API has it.
func TestBillingThin(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	account := billed(6)
	ask, _ := newAsker(t, account)
	seen := map[string]bool{}
	for i, ev := range account.Events {
		if seen[ev.Type] && i%8 > 0 { // some are enough
			continue
		}
		var thin struct {
			Type    string
			Related struct{ ID, Type, URL string } `json:"related_object"`
			Changes *struct{ Before, After object }
		}
		if err := json.Unmarshal(ev.Thin(true), &thin); err != nil {
			t.Fatal(err)
		}
		kind, _ := decode(t, ev.Body).Data.Object["object"].(string)
		if ev.ObjectID == "" {
			kind = "" // it names no object
		}
		if thin.Type != "v1."+ev.Type || thin.Related.ID != ev.ObjectID || thin.Related.Type != kind {
			t.Errorf("%s %s is about %v", ev.ID, ev.Type, thin.Related)
		}
		if (thin.Changes != nil) != (decode(t, ev.In(stripesim.VersionBasil)).Data.Previous != nil) {
			t.Errorf("%s %s has the changes %v", ev.ID, ev.Type, thin.Changes)
		}
		if seen[ev.Type] || ev.ObjectID == "" || ev.AccountID != "" || strings.HasSuffix(ev.Type, ".deleted") && !strings.HasPrefix(ev.Type, "customer.") || slices.Contains([]string{"tax_id", "coupon"}, thin.Related.Type) {
			continue
		}
		seen[ev.Type] = true
		if status, _ := ask.get(thin.Related.URL); status != http.StatusOK {
			t.Errorf("%s: %d", thin.Related.URL, status)
		}
	}
}
