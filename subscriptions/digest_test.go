package subscriptions

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/engine"
)

// notState has the fields that sameState ignores.
var notState = map[string]bool{"Object": true, "LastEventID": true, "LastEventCreatedAt": true, "CreatedAt": true, "UpdatedAt": true}

// Two digests differ if and only if sameState reports a difference, for every field, including fields added later.
func TestDigest(t *testing.T) {
	whole := func() *Subscription {
		return &Subscription{ID: "sub_1", Items: []Item{{ID: "si_1"}}, ItemsComplete: true}
	}
	before := digestOf(whole())
	for i := range reflect.TypeFor[Subscription]().NumField() {
		s := whole()
		name := reflect.TypeFor[Subscription]().Field(i).Name
		change(t, reflect.ValueOf(s).Elem().Field(i))
		if d := digestOf(s); d.equal(before) != notState[name] || sameState(s, whole()) != notState[name] {
			t.Errorf("with another %s the digest is the same: %v, and so is the state: %v", name, d.equal(before), sameState(s, whole()))
		}
	}
	for i := range reflect.TypeFor[Item]().NumField() {
		s := whole()
		name := reflect.TypeFor[Item]().Field(i).Name
		change(t, reflect.ValueOf(&s.Items[0]).Elem().Field(i))
		if d := digestOf(s); d.equal(before) || d.sameItems(before) || d.sameItemIDs(before) != (name != "ID") {
			t.Errorf("the digest does not change with an item's %s", name)
		}
	}
	one, several := whole(), whole()
	one.DiscountIDs, several.DiscountIDs = []string{"di_1", "di_2"}, []string{"di_2", "di_1"}
	if d, other := digestOf(one), digestOf(several); d.equal(other) || sameState(one, several) {
		t.Error("another order of the discounts is the same state")
	}
	paused, stored := whole(), whole()
	paused.PauseCollection = readPause([]byte(`{"resumes_at":null,"behavior":"void","new":{"b":1e2,"a":"\u00e9"}}`))
	stored.PauseCollection = readPause([]byte(`{"new": {"a": "é", "b": 100}, "behavior": "void"}`)) // as jsonb formats it
	if d, other := digestOf(paused), digestOf(stored); !d.equal(other) || !sameState(paused, stored) || differences("", paused, stored) != nil {
		t.Error("an equal pause in another form is another state")
	}
	two, swapped := whole(), whole()
	two.Items, swapped.Items = []Item{{ID: "si_1"}, {ID: "si_2"}}, []Item{{ID: "si_2"}, {ID: "si_1"}}
	if d, other := digestOf(two), digestOf(swapped); !d.equal(other) || !sameState(two, swapped) || differences("", two, swapped) != nil {
		t.Error("another order of the items is another state")
	}
	if swapped.Items[0].ID != "si_2" {
		t.Error("comparing items has sorted them")
	}
	s := whole()
	s.Status = StatusActive
	if d := digestOf(s); d.equal(before) || !d.sameItems(before) || !d.sameItemIDs(before) {
		t.Error("another status changes the digest of the items")
	}
	if d := engine.StoredDigest(engine.DigestAt(before, 7), 7); !before.equal(d) || engine.StoredDigest(engine.DigestAt(before, 7), 8) != nil || engine.StoredDigest(nil, 0) != nil || engine.StoredDigest([]byte("x"), 0) != nil {
		t.Errorf("a digest stored with another revision is read as %x", d)
	}
	if d := digestOf(whole()); !d.equal(before) || d.equal(nil) || d.sameItems(nil) || d.sameItemIDs(nil) {
		t.Error("a stored digest of the same state is not equal after it is read")
	}
}

// change sets a field to a value other than its zero value.
func change(t *testing.T, field reflect.Value) {
	t.Helper()
	second, n := time.Unix(1, 0), int64(1)
	if field.Kind() == reflect.Bool {
		field.SetBool(!field.Bool())
		return
	}
	for _, value := range []any{"x", &n, &second, second, map[string]string{"a": "b"}, []byte("{}"), []Item{{ID: "si_2"}}, []string{"x"},
		&PauseCollection{Object: []byte(`{"behavior":"void"}`)}} {
		if v := reflect.ValueOf(value); v.CanConvert(field.Type()) {
			field.Set(v.Convert(field.Type()))
			return
		}
	}
	t.Fatalf("no value of %s", field.Type())
}

// A member that is missing in Stripe's response is no difference.
func TestDifferencesOfNewerFields(t *testing.T) {
	stored := &Subscription{ItemsComplete: true, BillingMode: "flexible", CustomerAccountID: "acct_1"}
	for object, want := range map[string]int{`{}`: 0, `{"billing_mode":null}`: 1, `{"customer_account":null}`: 1, `{"billing_mode":null,"customer_account":null}`: 2} {
		answer := &Subscription{ItemsComplete: true, Object: json.RawMessage(object)}
		if found := differences("sub_1", stored, answer); len(found) != want {
			t.Errorf("from %s it differs in %+v", object, found)
		}
	}
}
