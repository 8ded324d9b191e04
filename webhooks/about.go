package webhooks

import (
	"bytes"
	"cmp"

	"github.com/pook/stripeonce/internal/rawjson"
)

// members are those of data.object that are asked of every object.
type members struct{ id, livemode, object, customer []byte }

// about is what is asked of every object.
type about struct{ kind, id, customer string }

func (m *members) about() about {
	id, _ := rawjson.String(m.id)
	kind, _ := rawjson.String(m.object)
	if kind == "customer" {
		return about{kind, id, id}
	}
	customer := m.customer
	if rawjson.IsObject(customer) {
		customer = rawjson.Get(customer, "id")
	}
	text, _ := rawjson.String(customer)
	return about{kind, id, text}
}

// note notes a member of the object.
func (m *members) note(key string, value []byte) {
	switch key {
	case "id":
		m.id = value
	case "livemode":
		m.livemode = value
	case "object":
		m.object = value
	case "customer":
		m.customer = value
	}
}

// readMembers reads what is asked of every object.
func readMembers(object []byte) (m members) {
	rawjson.Members(object, func(key, value []byte) { m.note(string(key), value) })
	return m
}

// CustomerID is the id of the event's customer (cus_…): data.object.customer, which may be an id or the whole object, or
// data.object itself. It is empty if the event has none, and for a thin event without its object.
func (ev *Event) CustomerID() string { return storableOrEmpty(ev.aboutObject().customer) }

// ObjectID is the id of the Stripe object that the event is about. It is empty if the object has none
// (an upcoming invoice) or one that the ledger's column cannot hold.
func (ev *Event) ObjectID() string {
	if ev.thin {
		return storableOrEmpty(ev.related.id)
	}
	return storableOrEmpty(ev.aboutObject().id)
}

// subject is the id of the object, or of its customer if it has none, as an upcoming invoice and a summary of entitlements have.
func (ev *Event) subject() string { return cmp.Or(ev.ObjectID(), ev.CustomerID()) }

// ObjectType returns the type of the event's object, as in Stripe's member object: "subscription", "invoice". For a thin event it
// is that of its related_object. Empty if the event does not say.
func (ev *Event) ObjectType() string {
	if ev.thin {
		return ev.related.kind
	}
	return ev.aboutObject().kind
}

// aboutObject returns what ParseEvent has read, or reads it from an Object that came from elsewhere.
func (ev *Event) aboutObject() about {
	if len(ev.Object) > 0 && ev.identified == &ev.Object[0] {
		return ev.about
	}
	object := bytes.TrimSpace(ev.Object)
	if !rawjson.IsObject(object) || !rawjson.Valid(object) {
		return about{}
	}
	m := readMembers(object)
	return m.about()
}

// storableOrEmpty returns an id, or "" for one that the ledger's column cannot hold.
func storableOrEmpty(id string) string {
	if storableText("", id) != nil {
		return ""
	}
	return id
}
