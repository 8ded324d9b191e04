package mirror

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/webhooks"
)

// list is a list of Stripe's.
type list struct {
	Object  string            `json:"object"`
	Data    []json.RawMessage `json:"data"`
	HasMore bool              `json:"has_more"`
	URL     string            `json:"url"`
}

// collect makes the object of a customer of the list that the API has of it. An event has it in the same form but for the
// list's url.
func (r *rule) collect(customer string, livemode bool, text []byte) ([]byte, error) {
	var l list
	if err := json.Unmarshal(text, &l); err != nil || l.Data == nil {
		return nil, fmt.Errorf("Stripe's list at %s for %s has no data: %w", r.path, customer, err) //nolint:staticcheck // a name
	}
	l.Object, l.URL = "list", "/v1/customer/"+customer+"/"+r.collects
	return json.Marshal(map[string]any{"object": r.object, "customer": customer, "livemode": livemode, r.collects: l})
}

// collectEvent gives an event's object, and the list that was fetched for it, the same form. What has no list stays as it is, and
// is then stored as incomplete.
func (r *rule) collectEvent(ev *webhooks.Event) {
	customer := ev.CustomerID()
	if object := bytes.TrimSpace(ev.Object); rawjson.IsObject(object) {
		if object, err := r.collect(customer, ev.Livemode, rawjson.Get(object, r.collects)); err == nil {
			ev.Object = object
		}
	}
	if ev.Current == nil || ev.Current.Object == nil {
		return
	}
	if object, err := r.collect(customer, ev.Livemode, ev.Current.Object); err == nil {
		ev.Current.Object = object
	} else {
		ev.Current.Object = nil
	}
}

// collectsNothing reports whether an object has an empty list. Its customer may have been deleted since.
func (r *rule) collectsNothing(o *Object) bool {
	return r.collects != "" && o.Complete && string(r.data(o.Object)) == "[]"
}

// data returns the elements of an object's list, or nil if there is no list.
func (r *rule) data(object []byte) []byte {
	if !rawjson.IsObject(object) {
		return nil
	}
	l := rawjson.Get(object, r.collects)
	if !rawjson.IsObject(l) {
		return nil
	}
	return rawjson.Get(l, "data")
}
