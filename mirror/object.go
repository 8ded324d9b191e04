package mirror

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/webhooks"
)

// maxID is the width, in characters, of the columns for ids.
const maxID = 255

// maxSecond is the last second of the year 9999.
const maxSecond = 253402300799

// Object is a mirrored Stripe object with the columns of its row.
type Object struct {
	Type     string // as in Stripe's member object: "invoice"
	ID       string
	Account  string // empty: the receiver's own
	Livemode bool
	// CustomerID, SubscriptionID and Status are the object's, in any API version. A customer's CustomerID is its own id. Empty if
	// it has none.
	CustomerID     string
	SubscriptionID string
	Status         string
	// Deleted reports that Stripe has deleted the object. Object is then as the last event had it, or only
	// {"id", "object", "deleted": true}.
	Deleted bool
	// Complete is false if Object has a list, such as an invoice's lines, of which Stripe rendered only the first elements, and the
	// rest could not be fetched.
	Complete bool
	Created  *time.Time      // when Stripe created the object
	Object   json.RawMessage // Stripe's whole object, without members named client_secret or secret

	LastEventID        string // the event of this state; empty after an import
	LastEventCreatedAt *time.Time
	CreatedAt          time.Time // of the row
	UpdatedAt          time.Time // of the row
}

// Decode decodes Object with encoding/json, such as into a *stripe.Invoice.
func (o *Object) Decode(into any) error {
	if err := json.Unmarshal(o.Object, into); err != nil {
		return fmt.Errorf("decode %s %s into %T: %w", o.Type, o.ID, into, err)
	}
	return nil
}

// decode reads the object of an event.
func (r *rule) decode(ev *webhooks.Event) (*Object, error) {
	o := &Object{
		Type: r.Object, Account: ev.Account, Livemode: ev.Livemode, Complete: true, Object: ev.Object,
		Deleted: strings.HasSuffix(ev.Type, ".deleted"), LastEventID: ev.ID, LastEventCreatedAt: engine.CreatedAt(ev),
	}
	raw := bytes.TrimSpace(ev.Object)
	var parent []byte
	valid, _ := rawjson.Walk(raw, 1, func(path [][]byte, value []byte) {
		key := string(path[0])
		switch key {
		case "id":
			o.ID, _ = rawjson.String(value)
		case "customer":
			o.CustomerID = reference(value)
		case "subscription":
			o.SubscriptionID = reference(value)
		case "parent":
			parent = value
		case "status":
			o.Status, _ = rawjson.String(value)
		case r.Dated:
			o.Created = second(value)
		case "deleted":
			o.Deleted = o.Deleted || string(value) == "true"
		}
		if slices.Contains(r.Lists, key) && rawjson.IsObject(value) && string(rawjson.Get(value, "has_more")) == "true" {
			o.Complete = false
		}
	})
	if !valid || !rawjson.IsObject(raw) {
		return nil, r.unreadable("%s has no data.object that is a JSON object of at most 512 levels", ev.Type)
	}
	if o.SubscriptionID == "" && rawjson.IsObject(parent) { // since 2025-03-31.basil
		if details := rawjson.Get(parent, "subscription_details"); rawjson.IsObject(details) {
			o.SubscriptionID = reference(rawjson.Get(details, "subscription"))
		}
	}
	if r.Object == "customer" {
		o.CustomerID = o.ID
	}
	for name, id := range map[string]string{"id": o.ID, "customer": o.CustomerID, "subscription": o.SubscriptionID} {
		if len(id) > maxID && utf8.RuneCountInString(id) > maxID {
			return nil, r.unreadable("its %s is longer than %d characters", name, maxID)
		}
	}
	if r.Collects != "" {
		o.ID = o.CustomerID
		o.Complete = o.Complete && rawjson.IsArray(r.data(raw))
	}
	if o.ID == "" {
		return nil, r.unreadable("it has no id")
	}
	return o, nil
}

func (r *rule) unreadable(format string, args ...any) error {
	return &engine.UnreadableError{Object: strings.ReplaceAll(r.Object, "_", " "), Reason: fmt.Sprintf(format, args...)}
}

// reference reads an id, or the expanded object of that id.
func reference(raw []byte) string {
	if rawjson.IsObject(raw) {
		raw = rawjson.Get(raw, "id")
	}
	id, _ := rawjson.String(raw)
	return id
}

// second reads Unix seconds. It returns nil for anything else.
func second(raw []byte) *time.Time {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < 0 || n > maxSecond {
		return nil
	}
	at := time.Unix(n, 0).UTC()
	return &at
}

// digest returns a digest of the state: of the object, as ordering.Rules.Digest returns it, and of the columns that are not in it.
func (o *Object) digest(object string) []byte {
	text := make([]byte, 0, len(object)+len(o.Account)+32)
	text = rawjson.AppendString(text, o.Account)
	for _, flag := range []bool{o.Livemode, o.Deleted, o.Complete} {
		text = strconv.AppendBool(text, flag)
	}
	sum := sha256.Sum256(append(text, object...))
	return sum[:16]
}

// clone returns a copy that shares nothing that is changed.
func (o *Object) clone() *Object {
	c := *o
	c.Object = bytes.Clone(o.Object)
	return &c
}
