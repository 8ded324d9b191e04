package mirror

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

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
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("Stripe's list at %s for %s: %w", r.Path, customer, err) //nolint:staticcheck // a name
	}
	if l.Data == nil {
		return nil, fmt.Errorf("Stripe's list at %s for %s has no data", r.Path, customer) //nolint:staticcheck // a name
	}
	l.Object, l.URL = "list", "/v1/customer/"+customer+"/"+r.Collects
	return json.Marshal(map[string]any{"object": r.Object, "customer": customer, "livemode": livemode, r.Collects: l})
}

// collectEvent gives an event's object, and the list that was fetched for it, the same form. What has no list stays as it is, and
// is then stored as incomplete.
func (r *rule) collectEvent(ev *webhooks.Event) {
	customer := ev.CustomerID()
	if object := bytes.TrimSpace(ev.Object); rawjson.IsObject(object) {
		if object, err := r.collect(customer, ev.Livemode, rawjson.Get(object, r.Collects)); err == nil {
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
	return r.Collects != "" && o.Complete && string(r.data(o.Object)) == "[]"
}

// data returns the elements of an object's list, or nil if there is no list.
func (r *rule) data(object []byte) []byte {
	if !rawjson.IsObject(object) {
		return nil
	}
	l := rawjson.Get(object, r.Collects)
	if !rawjson.IsObject(l) {
		return nil
	}
	return rawjson.Get(l, "data")
}

// keepCommon reports whether different objects may hold, of events of one second, or of a response and an event of about its second.
// The version then has what all of them have, and is incomplete: what only some have may have ended.
func (r *rule) keepCommon(next *version) bool {
	objects := []json.RawMessage{next.State.Object}
	digests := map[string]bool{}
	for i := range next.Newest {
		one := &next.Newest[i]
		digests[cmp.Or(one.To, r.ordering().Digest(one.Object))] = true
		if one.Object != nil {
			objects = append(objects, one.Object)
		}
	}
	if next.Doubt != nil {
		objects = append(objects, next.Doubt.Object)
	}
	if len(digests) < 2 && next.Doubt == nil {
		return false
	}
	next.State.Complete = false
	if object, err := r.common(objects); err == nil {
		next.State.Object = object
	}
	return true
}

// common returns an object with the elements that all have.
func (r *rule) common(objects []json.RawMessage) (json.RawMessage, error) {
	first, rest := objects[0], objects[1:]
	elements := []json.RawMessage{}
	if data := r.data(first); rawjson.IsArray(data) {
		rawjson.Elements(data, func(element []byte) {
			if !slices.ContainsFunc(rest, func(other json.RawMessage) bool { return !r.has(other, element) }) {
				elements = append(elements, element)
			}
		})
	}
	text, err := json.Marshal(list{Data: elements, HasMore: true})
	if err != nil {
		return nil, err
	}
	customer, _ := rawjson.String(rawjson.Get(first, "customer"))
	return r.collect(customer, rawjson.IsTrue(first, "livemode"), text)
}

// has reports whether an object's list has an element with the same id.
func (r *rule) has(object json.RawMessage, element []byte) (found bool) {
	data := r.data(object)
	if !rawjson.IsArray(data) || !rawjson.IsObject(element) {
		return false
	}
	id := string(rawjson.Get(element, "id"))
	rawjson.Elements(data, func(other []byte) {
		found = found || rawjson.IsObject(other) && string(rawjson.Get(other, "id")) == id
	})
	return found
}
