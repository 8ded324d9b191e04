package subscriptions_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

const updatedType = "customer.subscription.updated"

func newHost(t testing.TB, config *subscriptions.Config) *hooktest.Host {
	t.Helper()
	h := webhooks.NewHandlers()
	subscriptions.Register(h, config)
	return hooktest.New(t, h, nil)
}

func get(t testing.TB, host *hooktest.Host, id string) *subscriptions.Subscription {
	t.Helper()
	sub, err := subscriptions.New(host.Pool).Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func at(seconds int64) *time.Time {
	t := time.Unix(seconds, 0).UTC()
	return &t
}

func n(n int64) *int64 { return &n }

var noMetadata = map[string]string{}

// shapes are subscriptions in the shapes of Stripe's API versions, and the resulting rows.
var shapes = []struct {
	name, object string
	want         subscriptions.Subscription
}{
	{"basil: the period is the items'", `{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active","currency":"usd",
		"created":100,"collection_method":"charge_automatically","cancel_at_period_end":false,"latest_invoice":"in_1","livemode":false,
		"metadata":{"org":"7"},"trial_start":10,"trial_end":20,"items":{"data":[
		{"id":"si_1","quantity":3,"current_period_start":100,"current_period_end":200,"metadata":{"k":"v"},"price":{"id":"price_1","product":"prod_1"}},
		{"id":"si_2","quantity":0,"current_period_start":101,"current_period_end":201,"price":{"id":"price_2","product":{"id":"prod_2"}}}]}}`,
		subscriptions.Subscription{ID: "sub_1", CustomerID: "cus_1", Status: "active", PriceID: "price_1", Quantity: n(3), Currency: "usd",
			CurrentPeriodStart: at(100), CurrentPeriodEnd: at(200), TrialStart: at(10), TrialEnd: at(20), Created: at(100),
			CollectionMethod: "charge_automatically", LatestInvoiceID: "in_1", Metadata: map[string]string{"org": "7"},
			Items: []subscriptions.Item{
				{ID: "si_1", PriceID: "price_1", ProductID: "prod_1", Quantity: n(3), CurrentPeriodStart: at(100), CurrentPeriodEnd: at(200), Metadata: map[string]string{"k": "v"}},
				{ID: "si_2", PriceID: "price_2", ProductID: "prod_2", Quantity: n(0), CurrentPeriodStart: at(101), CurrentPeriodEnd: at(201), Metadata: noMetadata},
			}}},
	{"before basil: the period is the subscription's", `{"id":"sub_1","status":"active","current_period_start":100,"current_period_end":200,
		"items":{"data":[{"id":"si_1","quantity":1,"price":{"id":"price_1","product":"prod_1"}}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", PriceID: "price_1", Quantity: n(1), CurrentPeriodStart: at(100), CurrentPeriodEnd: at(200), Metadata: noMetadata,
			Items: []subscriptions.Item{{ID: "si_1", PriceID: "price_1", ProductID: "prod_1", Quantity: n(1), CurrentPeriodStart: at(100), CurrentPeriodEnd: at(200), Metadata: noMetadata}}}},
	{"before 2020: plans, no prices", `{"id":"sub_1","status":"active","plan":{"id":"gold","product":"prod_1"},"quantity":2,
		"items":{"data":[{"id":"si_1","plan":{"id":"gold","product":"prod_1"},"quantity":2}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", PriceID: "gold", Quantity: n(2), Metadata: noMetadata,
			Items: []subscriptions.Item{{ID: "si_1", PriceID: "gold", ProductID: "prod_1", Quantity: n(2), Metadata: noMetadata}}}},
	{"no items at all", `{"id":"sub_1","status":"active","plan":{"id":"gold"},"quantity":2}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", PriceID: "gold", Quantity: n(2), Metadata: noMetadata}},
	{"several items, plan and quantity null", `{"id":"sub_1","status":"active","plan":null,"quantity":null,"items":{"data":[{"id":"si_1","price":{"id":"p1"}},{"id":"si_2","price":"p2"}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", PriceID: "p1", Metadata: noMetadata,
			Items: []subscriptions.Item{{ID: "si_1", PriceID: "p1", Metadata: noMetadata}, {ID: "si_2", PriceID: "p2", Metadata: noMetadata}}}},
	{"expanded, deleted customer; expanded invoice", `{"id":"sub_1","status":"canceled","customer":{"id":"cus_1","object":"customer","deleted":true},"latest_invoice":{"id":"in_1"}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "canceled", CustomerID: "cus_1", LatestInvoiceID: "in_1", Metadata: noMetadata}},
	{"nulls", `{"id":"sub_1","status":"active","customer":null,"currency":null,"items":null,"metadata":null,"latest_invoice":null,"livemode":null,"cancel_at_period_end":null,"plan":null}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Metadata: noMetadata}},
	{"an undocumented status", `{"id":"sub_1","status":"suspended_by_moon"}`,
		subscriptions.Subscription{ID: "sub_1", Status: "suspended_by_moon", Metadata: noMetadata}},
	{"livemode of its own", `{"id":"sub_1","status":"active","livemode":true}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Livemode: true, Metadata: noMetadata}},
	{"text that PostgreSQL refuses", `{"id":"sub_1","status":"active","currency":"u\u0000d","metadata":{"a\u0000":"\ud800","n":1e9999,"o":{"x":[1]},"z":null}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Currency: "u\ufffdd",
			Metadata: map[string]string{"a\ufffd": "\ufffd", "n": "1e9999", "o": `{"x":[1]}`, "z": "null"}}},
	{"numbers in other notations", `{"id":"sub_1","status":"active","quantity":2.0,"cancel_at":1e3}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Quantity: n(2), CancelAt: at(1000), Metadata: noMetadata}},
	{"an item twice", `{"id":"sub_1","status":"active","items":{"data":[{"id":"si_1","quantity":1},{"id":"si_2"},{"id":"si_1","quantity":5}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Quantity: n(5), Metadata: noMetadata,
			Items: []subscriptions.Item{{ID: "si_1", Quantity: n(5), Metadata: noMetadata}, {ID: "si_2", Metadata: noMetadata}}}},
	{"repeated keys: the last value counts, as in jsonb", `{"id":"sub_1","status":"active","currency":"usd","currency":null,
		"quantity":3,"quantity":null,"items":{"data":[{"id":"si_1","quantity":4,"price":{"id":"p1"}}]},"items":{"data":[{"id":"si_2"}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Metadata: noMetadata, Items: []subscriptions.Item{{ID: "si_2", Metadata: noMetadata}}}},
	{"keys of another case are other keys", `{"id":"sub_1","ID":"sub_2","status":"active","Status":"canceled"}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Metadata: noMetadata}},
	{"an item's times in 1970 and 9999", `{"id":"sub_1","status":"active","items":{"data":[{"id":"si_1","current_period_start":0,"current_period_end":253402300799}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Metadata: noMetadata, CurrentPeriodStart: at(0), CurrentPeriodEnd: at(253402300799),
			Items: []subscriptions.Item{{ID: "si_1", Metadata: noMetadata, CurrentPeriodStart: at(0), CurrentPeriodEnd: at(253402300799)}}}},
	{"empty arrays in place of objects, as PHP has them", `{"id":"sub_1","status":"active","metadata":[ ],"latest_invoice":[],"customer":[],"plan":[],
		"items":{"data":[{"id":"si_1","metadata":[],"price":[],"plan":{"id":"gold","metadata":[],"product":[]}}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", PriceID: "gold", Metadata: noMetadata,
			Items: []subscriptions.Item{{ID: "si_1", PriceID: "gold", Metadata: noMetadata}}}},
	{"an empty array in place of the list", `{"id":"sub_1","status":"active","quantity":2,"items":[]}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Quantity: n(2), Metadata: noMetadata}},
	{"arrays in place of metadata with the keys 0, 1, …", `{"id":"sub_1","status":"active","metadata":["a",["b"],"c"],"items":{"data":[{"id":"si_1","metadata":["d"]}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", Metadata: map[string]string{"0": "a", "1": `["b"]`, "2": "c"},
			Items: []subscriptions.Item{{ID: "si_1", Metadata: map[string]string{"0": "d"}}}}},
	{"the oldest item counts, not the first", `{"id":"sub_1","status":"active","items":{"data":[{"id":"si_a","created":20,"quantity":2,"price":{"id":"p_a"}},{"id":"si_c","created":10,"quantity":3,"current_period_start":5,"current_period_end":9,"price":{"id":"p_c"}},{"id":"si_b","created":30,"price":{"id":"p_b"}}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", PriceID: "p_c", Quantity: n(3), CurrentPeriodStart: at(5), CurrentPeriodEnd: at(9), Metadata: noMetadata,
			Items: []subscriptions.Item{{ID: "si_a", PriceID: "p_a", Quantity: n(2), Metadata: noMetadata}, {ID: "si_c", PriceID: "p_c", Quantity: n(3), CurrentPeriodStart: at(5), CurrentPeriodEnd: at(9), Metadata: noMetadata}, {ID: "si_b", PriceID: "p_b", Metadata: noMetadata}}}},
	{"among items of one second the smallest id, and an item without a time is the newest", `{"id":"sub_1","status":"active","items":{"data":[{"id":"si_0","created":"x","price":{"id":"p_0"}},{"id":"si_b","created":1e1,"price":{"id":"p_b"}},{"id":"si_a","created":10,"price":{"id":"p_a"}}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", PriceID: "p_a", Metadata: noMetadata,
			Items: []subscriptions.Item{{ID: "si_0", PriceID: "p_0", Metadata: noMetadata}, {ID: "si_b", PriceID: "p_b", Metadata: noMetadata}, {ID: "si_a", PriceID: "p_a", Metadata: noMetadata}}}},
	{"the oldest item lacks the values: top-level values", `{"id":"sub_1","status":"active","plan":{"id":"gold"},"quantity":4,"items":{"data":[{"id":"si_b","created":20,"quantity":7,"price":{"id":"p_b"}},{"id":"si_a","created":10}]}}`,
		subscriptions.Subscription{ID: "sub_1", Status: "active", PriceID: "gold", Quantity: n(4), Metadata: noMetadata,
			Items: []subscriptions.Item{{ID: "si_b", PriceID: "p_b", Quantity: n(7), Metadata: noMetadata}, {ID: "si_a", Metadata: noMetadata}}}},
	{"times in 1970 and 9999", `{"id":"sub_1","status":"canceled","ended_at":0,"cancel_at":253402300799}`,
		subscriptions.Subscription{ID: "sub_1", Status: "canceled", EndedAt: at(0), CancelAt: at(253402300799), Metadata: noMetadata}},
}

func TestShapes(t *testing.T) {
	t.Parallel()
	for _, c := range shapes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var after *subscriptions.Subscription
			host := newHost(t, &subscriptions.Config{OnChange: func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
				after = c.After
				return nil
			}})
			host.Expect(t, hooktest.Event("evt_1", updatedType, 1700000000, c.object), 200, webhooks.OutcomeProcessed)
			stored := get(t, host, "sub_1")
			c.want.ItemsComplete, c.want.LastEventID, c.want.LastEventCreatedAt = true, "evt_1", at(1700000000)
			rowsOwn := cmpopts.IgnoreFields(subscriptions.Subscription{}, "Object", "CreatedAt", "UpdatedAt")
			if diff := cmp.Diff(&c.want, stored, rowsOwn); diff != "" {
				t.Errorf("the row (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(after, stored, cmpopts.IgnoreFields(subscriptions.Subscription{}, "Object")); diff != "" {
				t.Errorf("OnChange and the stored row differ (-OnChange +stored):\n%s", diff)
			}
			// Another event with the same state changes nothing.
			host.Expect(t, hooktest.Event("evt_2", updatedType, 1700000001, c.object), 200, webhooks.OutcomeStale)
			// Reads in other time zones return the same, also where a zone changes the year or had an odd offset.
			for _, zone := range []string{"Asia/Tokyo", "Africa/Monrovia"} {
				elsewhere := pgtest.Connect(t, host.DatabaseURL+"&timezone="+zone)
				read, err := subscriptions.New(elsewhere).Get(t.Context(), "sub_1")
				if err != nil {
					t.Fatalf("in %s: %v", zone, err)
				}
				if diff := cmp.Diff(stored.Items, read.Items); diff != "" {
					t.Errorf("in %s (-UTC +there):\n%s", zone, diff)
				}
			}
		})
	}
}

// An event whose subscription cannot be stored fails. The failure record names the field, and the reply does not.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	host := newHost(t, nil)
	long := strings.Repeat("x", 256)
	for i, c := range []struct{ object, reason string }{
		{`{"status":"active"}`, "no id"},
		{`{"id":"sub_1"}`, "no status"},
		{`{"id":"sub_1","status":7}`, "not a string"},
		{`{"id":"` + long + `","status":"active"}`, "id is longer than 255"},
		{`{"id":"sub_1","status":"active","customer":"` + long + `"}`, "customer is longer than 255"},
		{`{"id":"sub_1","status":"active","customer":5}`, "not a string"},
		{`{"id":"sub_1","status":"active","quantity":1e30}`, "not a whole number"},
		{`{"id":"sub_1","status":"active","quantity":1e9999}`, "not a whole number"},
		{`{"id":"sub_1","status":"active","quantity":1.5}`, "not a whole number"},
		{`{"id":"sub_1","status":"active","cancel_at":99999999999999}`, "not a time"},
		{`{"id":"sub_1","status":"active","cancel_at":"tomorrow"}`, "not a whole number"},
		{`{"id":"sub_1","status":"active","items":{"data":[{}]}}`, "items.data[0].id is missing"},
		{`{"id":"sub_1","status":"active","items":{"data":[{"id":"` + long + `"}]}}`, "items.data[0].id is longer"},
		{`{"id":"sub_1","status":"active","items":[{"id":"si_1"}]}`, "the subscription's items:"},
		{`{"id":"sub_1","status":"active","currency":["somebody@example.com"]}`, "the subscription's currency: not a string"},
		{`{"id":"sub_1","status":"active","metadata":"x"}`, "metadata"},
		{`{"id":"cus_1","object":"customer","status":"active"}`, "another object than a subscription"},
	} {
		id := fmt.Sprintf("evt_%d", i)
		reply := host.Send(t, hooktest.Event(id, updatedType, 1, c.object))
		if reply.Status != 500 || string(reply.Body) != `{"error":"processing the event failed"}` {
			t.Errorf("%.80s is answered %s", c.object, reply)
		}
		record := pgtest.Scan[string](t, host.Pool, `SELECT last_error FROM stripe_webhook_failures WHERE event_id = $1`, id)
		if !strings.Contains(record, c.reason) || strings.Contains(record, "example.com") {
			t.Errorf("the record of %.80s is %q, want %q in it", c.object, record, c.reason)
		}
	}
	host.Expect(t, []byte(`{"id":"evt_x","type":"customer.subscription.updated"}`), 500, "")
	if rows := host.Count(t, "stripe_webhook_events"); rows != 0 {
		t.Errorf("the ledger has %d rows", rows)
	}
}

// FuzzStored checks that any object of a signed event is stored or fails the event: no input is reported as an
// infrastructure failure.
func FuzzStored(f *testing.F) {
	for _, c := range shapes {
		f.Add(c.object)
	}
	host := newHost(f, nil)
	serial := 0
	f.Fuzz(func(t *testing.T, object string) {
		serial++
		ev, err := webhooks.ParseEvent(hooktest.Event(fmt.Sprintf("evt_%d", serial), updatedType, int64(serial), object))
		if err != nil {
			t.Skip()
		}
		_, err = host.Receiver.Apply(context.Background(), ev)
		if err != nil && !errors.As(err, new(*webhooks.HandlerError)) {
			t.Errorf("%q: %v", object, err)
		}
	})
}
