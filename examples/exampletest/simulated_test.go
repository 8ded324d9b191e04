package exampletest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v86"

	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The newest stripe-go decodes every object that the simulated Stripe makes.
func TestNewestStripeGoDecodesTheSimulation(t *testing.T) {
	account := stripesim.New(3, stripesim.Epoch)
	account.Connected = []string{"acct_1"}
	account.Live(stripesim.Life{Subscriptions: 20, Bursts: true})
	account.Connected = nil // the next one is the platform's own
	sub := account.Subscribe(stripesim.VersionBasil)
	sub.Use(account.AddTestClock())
	for range 25 {
		sub.AddItem()
	}
	decode := func(what string, text []byte, into any) {
		t.Helper()
		if err := json.Unmarshal(text, into); err != nil {
			t.Errorf("%s: %v\n%.300s", what, err, text)
		}
	}
	for _, ev := range account.Events {
		event := &stripe.Event{}
		decode(ev.Type, ev.In(stripesim.VersionBasil), event)
		if event.ID != ev.ID || event.Data == nil {
			t.Errorf("%s is decoded as %+v", ev.ID, event)
			continue
		}
		if ev.ObjectID == ev.SubscriptionID {
			object := &stripe.Subscription{}
			decode(ev.Type, event.Data.Raw, object)
			if object.ID != ev.ObjectID || len(object.Items.Data) == 0 || object.Items.Data[0].CurrentPeriodEnd == 0 {
				t.Errorf("the subscription of %s is decoded as %+v", ev.ID, object)
			}
		} else {
			object := &stripe.Invoice{}
			decode(ev.Type, event.Data.Raw, object)
			if object.ID != ev.ObjectID || object.Parent == nil {
				t.Errorf("the invoice of %s is decoded as %+v", ev.ID, object)
			}
		}
		thin := &stripe.V2BaseEvent{}
		decode("a thin event", ev.Thin(true), thin)
		if thin.Context != ev.AccountID || thin.ID != ev.ThinID() || thin.Created.Unix() != ev.Created {
			t.Errorf("the thin event of %s is decoded as %+v", ev.ID, thin)
		}
	}
	decodeBilling(t, decode)
	session, invoice := &stripe.CheckoutSession{}, &stripe.Invoice{}
	decode("a Checkout session", marshal(t, webhookstest.CheckoutSession{ID: "cs_1", SubscriptionID: "sub_1", AmountTotal: 900}), session)
	decode("an invoice", marshal(t, webhookstest.Invoice{ID: "in_1", SubscriptionID: "sub_1", AmountDue: 900}), invoice)
	if session.Subscription.ID != "sub_1" || session.AmountTotal != 900 || invoice.Parent.SubscriptionDetails.Subscription.ID != "sub_1" || invoice.AmountPaid != 900 {
		t.Errorf("webhookstest's objects are decoded as %+v and %+v", session, invoice)
	}
	api := stripesim.NewAPI(account)
	api.AddDestination(stripesim.Destination{ID: "ed_1", URL: "https://example.com/", Payload: "thin", Types: []string{"v1.invoice.paid"}, EventsFrom: []string{"@self"}})
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	get := func(path string, into any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer sk_test_1")
		req.Header.Set("Stripe-Version", "2026-09-30.endive")
		response, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s, %v", path, response.StatusCode, text, err)
		}
		decode(path, text, into)
	}
	subs, items, clocks := &stripe.SubscriptionList{}, &stripe.SubscriptionItemList{}, &stripe.TestHelpersTestClockList{}
	get("/v1/subscriptions?limit=100", subs)
	get("/v1/subscription_items?limit=100&subscription="+sub.ID(), items)
	get("/v1/test_helpers/test_clocks", clocks)
	if len(subs.Data) == 0 || len(items.Data) != 26 || len(clocks.Data) != 1 || clocks.Data[0].Created > time.Now().Unix() {
		t.Errorf("%d subscriptions, %d items, %d test clocks", len(subs.Data), len(items.Data), len(clocks.Data))
	}
	var destinations struct {
		Data []*stripe.V2CoreEventDestination `json:"data"`
	}
	get("/v2/core/event_destinations?include[0]=webhook_endpoint.url", &destinations)
	if len(destinations.Data) != 1 || destinations.Data[0].WebhookEndpoint.URL != "https://example.com/" {
		t.Errorf("the destinations are %+v", destinations.Data)
	}
}

// decodeBilling decodes the objects that Account.Billing adds.
func decodeBilling(t *testing.T, decode func(what string, text []byte, into any)) {
	t.Helper()
	account := stripesim.New(3, stripesim.Epoch)
	account.Billing = true
	account.Live(stripesim.Life{Subscriptions: 20, Bursts: true})
	for _, o := range account.Objects() {
		text := o.In(stripesim.VersionBasil)
		switch o.Type {
		case "customer":
			c := &stripe.Customer{}
			if decode(o.ID, text, c); c.ID != o.ID || c.Deleted != o.Deleted || !o.Deleted && c.InvoiceSettings == nil {
				t.Errorf("%s is decoded as %+v", o.ID, c)
			}
		case "product":
			p := &stripe.Product{}
			if decode(o.ID, text, p); p.ID != o.ID || p.Deleted != o.Deleted || !o.Deleted && p.Name == "" {
				t.Errorf("%s is decoded as %+v", o.ID, p)
			}
		case "price":
			p := &stripe.Price{}
			if decode(o.ID, text, p); p.ID != o.ID || p.Recurring == nil || p.UnitAmount == 0 || p.Product.ID == "" {
				t.Errorf("%s is decoded as %+v", o.ID, p)
			}
		case "invoice":
			i := &stripe.Invoice{}
			if decode(o.ID, text, i); i.ID != o.ID || i.Deleted != o.Deleted || !o.Deleted && (i.Customer.ID != o.CustomerID || i.Lines.Data[0].Pricing.PriceDetails.Price == nil || i.Lines.Data[0].Parent == nil) {
				t.Errorf("%s is decoded as %+v", o.ID, i)
			}
		}
	}
}
