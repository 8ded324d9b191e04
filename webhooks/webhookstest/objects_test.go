package webhookstest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// update is an event of an update as its receiver reads it.
type update struct {
	Type string `json:"type"`
	Data struct {
		Object struct {
			ID            string            `json:"id"`
			Status        string            `json:"status"`
			PaymentMethod string            `json:"default_payment_method"`
			Metadata      map[string]string `json:"metadata"`
			Items         struct {
				Data []struct {
					ID       string `json:"id"`
					Quantity int64  `json:"quantity"`
					Price    struct {
						ID string `json:"id"`
					} `json:"price"`
				} `json:"data"`
			} `json:"items"`
		} `json:"object"`
		Previous map[string]any `json:"previous_attributes"`
	} `json:"data"`
}

func read(t *testing.T, ev webhookstest.Event) (u update, state string) {
	t.Helper()
	if err := json.Unmarshal(ev.Body(), &u); err != nil {
		t.Fatal(err)
	}
	o := u.Data.Object
	state = fmt.Sprint(o.ID, " ", o.Status, " ", o.PaymentMethod, " ", o.Metadata)
	for _, it := range o.Items.Data {
		state += fmt.Sprint(" ", it.ID, "=", it.Quantity, "×", it.Price.ID)
	}
	return u, state
}

// An update keeps all that it does not change, and names in its previous attributes what it does.
func TestUpdate(t *testing.T) {
	t.Parallel()
	type sub = webhookstest.Subscription
	one := sub{ID: "sub_1", Status: "past_due", PriceID: "price_a", Quantity: 2, DefaultPaymentMethodID: "pm_1", Metadata: map[string]string{"org": "7"}}
	two := sub{ID: "sub_2", Items: []webhookstest.Item{{PriceID: "price_a", Quantity: 2}, {ID: "si_b", PriceID: "price_b"}}}
	for _, c := range []struct {
		before         sub
		change         func(*sub)
		want, previous string
	}{
		{one, func(*sub) {}, "sub_1 past_due pm_1 map[org:7] si_of_sub_1=2×price_a", "[]"},
		{one, func(s *sub) { s.Quantity = 5 }, "sub_1 past_due pm_1 map[org:7] si_of_sub_1=5×price_a", "[items quantity]"},
		{one, func(s *sub) { s.PriceID = "price_b" }, "sub_1 past_due pm_1 map[org:7] si_of_sub_1=2×price_b", "[items plan]"},
		{one, func(s *sub) { s.Status = "active" }, "sub_1 active pm_1 map[org:7] si_of_sub_1=2×price_a", "[status]"},
		{one, func(s *sub) { s.Metadata["org"], s.DefaultPaymentMethodID = "8", "" }, "sub_1 past_due  map[org:8] si_of_sub_1=2×price_a", "[default_payment_method metadata]"},
		{two, func(s *sub) { s.Metadata["org"] = "7" }, "sub_2 active  map[org:7] si_0_of_sub_2=2×price_a si_b=1×price_b", "[metadata]"},
		{two, func(s *sub) { s.Items[0].Quantity = 5 }, "sub_2 active  map[] si_0_of_sub_2=5×price_a si_b=1×price_b", "[items]"},
		{two, func(s *sub) { s.Items = s.Items[1:] }, "sub_2 active  map[] si_b=1×price_b", "[items plan quantity]"},
		{two, func(s *sub) { s.Items = append(s.Items[:1], webhookstest.Item{}) }, "sub_2 active  map[] si_0_of_sub_2=2×price_a si_1_of_sub_2=1×price_test", "[items]"},
	} {
		after := c.before
		created := webhookstest.Event{Type: "customer.subscription.created", Object: c.before}
		_, was := read(t, created)
		u, got := read(t, after.Update(c.change))
		if u.Type != "customer.subscription.updated" || got != c.want {
			t.Errorf("the update is a %s of %s, want %s", u.Type, got, c.want)
		}
		if _, again := read(t, created); again != was {
			t.Errorf("the event before has become %s, it was %s", again, was)
		}
		var names []string
		for _, name := range []string{"default_payment_method", "items", "metadata", "plan", "quantity", "status"} {
			if _, has := u.Data.Previous[name]; has {
				names = append(names, name)
			}
		}
		if got := fmt.Sprint(names); got != c.previous || len(names) != len(u.Data.Previous) {
			t.Errorf("to %s: the previous attributes are %v, want %s", c.want, u.Data.Previous, c.previous)
		}
	}
}

// Updates of a subscription without any ids or times are of the same subscription, one after the other.
func TestUpdateTwice(t *testing.T) {
	t.Parallel()
	var sub webhookstest.Subscription
	first, _ := read(t, sub.Update(func(s *webhookstest.Subscription) { s.Status = "past_due" }))
	second, _ := read(t, sub.Update(func(s *webhookstest.Subscription) { s.Status = "canceled" }))
	if first.Data.Object.ID == "" || first.Data.Object.ID != second.Data.Object.ID || len(second.Data.Previous) != 1 || second.Data.Previous["status"] != "past_due" {
		t.Errorf("the updates are %+v and %+v", first, second)
	}
}

// A price of the only item beside several items would have no effect.
func TestItemsAndPrice(t *testing.T) {
	t.Parallel()
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "sub_1 has Items") {
			t.Errorf("the panic is %s", text)
		}
	}()
	sub := webhookstest.Subscription{ID: "sub_1", Items: []webhookstest.Item{{}, {}}}
	sub.Update(func(s *webhookstest.Subscription) { s.Quantity = 5 })
}

// The thin twin of an update has its previous attributes, in the update's API version.
func TestThinUpdate(t *testing.T) {
	t.Parallel()
	sub := webhookstest.Subscription{ID: "sub_1"}
	ev := sub.Update(func(s *webhookstest.Subscription) { s.Status = "past_due" })
	body := string(ev.Thin("/v1/subscriptions/sub_1").Body())
	if text := strings.Join(strings.Fields(body), ""); !strings.Contains(text, `"before":{"status":"active"}`) {
		t.Errorf("the thin event is %s", body)
	}
}
