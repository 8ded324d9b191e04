package subscriptions

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pook/stripeonce/webhooks"
)

// maxID is the width, in characters, of the columns for ids that are indexed.
const maxID = 255

// maxSecond is the last second of the year 9999.
const maxSecond = 253402300799

// subscriptionObject is Stripe's subscription in every API version: what one of them lacks stays zero.
type subscriptionObject struct {
	Object            text      `json:"object"`
	ID                text      `json:"id"`
	Customer          reference `json:"customer"`
	Status            text      `json:"status"`
	Currency          text      `json:"currency"`
	CancelAtPeriodEnd flag      `json:"cancel_at_period_end"`
	CancelAt          unixTime  `json:"cancel_at"`
	CanceledAt        unixTime  `json:"canceled_at"`
	Created           unixTime  `json:"created"`
	EndedAt           unixTime  `json:"ended_at"`
	TrialStart        unixTime  `json:"trial_start"`
	TrialEnd          unixTime  `json:"trial_end"`
	CollectionMethod  text      `json:"collection_method"`
	LatestInvoice     reference `json:"latest_invoice"`
	Metadata          metadata  `json:"metadata"`
	Livemode          *bool     `json:"livemode"`
	Items             struct {
		Data []itemObject `json:"data"`
	} `json:"items"`
	period         // before 2025-03-31.basil
	Plan     price `json:"plan"` // the first item's, or null if there are several
	Quantity count `json:"quantity"`
}

type itemObject struct {
	ID       text     `json:"id"`
	Price    price    `json:"price"`
	Plan     price    `json:"plan"` // all there is before 2020
	Quantity count    `json:"quantity"`
	Metadata metadata `json:"metadata"`
	period            // since 2025-03-31.basil
}

type period struct {
	Start unixTime `json:"current_period_start"`
	End   unixTime `json:"current_period_end"`
}

type price struct {
	ID      string
	Product string
}

// decode reads the subscription that an event carries. Its errors wrap webhooks.ErrInvalidEvent and name
// the field: an event that cannot be stored is refused, not retried into eternity.
func decode(ev *webhooks.Event) (*Subscription, error) {
	object, err := parseObject(ev)
	if err != nil {
		return nil, err
	}
	if object.Object != "" && object.Object != "subscription" {
		return nil, invalid("%s carries another object than a subscription", ev.Type)
	}
	if err := checkIDs(object); err != nil {
		return nil, err
	}
	return object.subscription(ev), nil
}

// parseObject goes through a map, so that of a repeated key the last value counts alone, as it does in
// jsonb. encoding/json would merge the values, and matches keys of other case; in the map's order the
// proper one comes after those.
func parseObject(ev *webhooks.Event) (*subscriptionObject, error) {
	fields, ok := decodeAny(ev.Object).(map[string]any)
	if !ok {
		return nil, invalid("%s without a data.object that is a JSON object of at most 512 levels", ev.Type)
	}
	object, err := fromFields(fields)
	if err == nil {
		return object, nil
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if _, err := fromFields(map[string]any{name: fields[name]}); err != nil {
			return nil, invalid("the subscription's %s: %v", name, err)
		}
	}
	return nil, invalid("the subscription: %v", err)
}

func fromFields(fields map[string]any) (*subscriptionObject, error) {
	once, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	object := &subscriptionObject{}
	return object, json.Unmarshal(once, object)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{webhooks.ErrInvalidEvent}, args...)...)
}

func checkIDs(o *subscriptionObject) error {
	if o.ID == "" {
		return invalid("the subscription has no id")
	}
	if o.Status == "" {
		return invalid("the subscription has no status")
	}
	ids := map[string]string{"id": string(o.ID), "customer": string(o.Customer)}
	for i, item := range o.Items.Data {
		name := fmt.Sprintf("items.data[%d].id", i)
		if item.ID == "" {
			return invalid("%s is missing", name)
		}
		ids[name] = string(item.ID)
	}
	for name, id := range ids {
		if utf8.RuneCountInString(id) > maxID {
			return invalid("the subscription's %s is longer than %d characters", name, maxID)
		}
	}
	return nil
}

func (o *subscriptionObject) subscription(ev *webhooks.Event) *Subscription {
	sub := &Subscription{
		ID:                 string(o.ID),
		CustomerID:         string(o.Customer),
		Status:             Status(o.Status),
		PriceID:            o.Plan.ID,
		Quantity:           o.Quantity.n,
		Currency:           string(o.Currency),
		CancelAtPeriodEnd:  bool(o.CancelAtPeriodEnd),
		CancelAt:           o.CancelAt.at,
		CanceledAt:         o.CanceledAt.at,
		EndedAt:            o.EndedAt.at,
		CurrentPeriodStart: o.Start.at,
		CurrentPeriodEnd:   o.End.at,
		TrialStart:         o.TrialStart.at,
		TrialEnd:           o.TrialEnd.at,
		CollectionMethod:   string(o.CollectionMethod),
		LatestInvoiceID:    string(o.LatestInvoice),
		Metadata:           o.Metadata.orEmpty(),
		Livemode:           ev.Livemode,
		AccountID:          ev.Account,
		Created:            o.Created.at,
		Items:              o.items(),
		Object:             ev.Object,
		LastEventID:        ev.ID,
	}
	if o.Livemode != nil {
		sub.Livemode = *o.Livemode
	}
	if !ev.Created.IsZero() {
		sub.LastEventCreatedAt = &ev.Created
	}
	if len(sub.Items) > 0 {
		first := sub.Items[0]
		sub.PriceID = either(first.PriceID, sub.PriceID)
		sub.Quantity = either(first.Quantity, sub.Quantity)
		sub.CurrentPeriodStart = either(first.CurrentPeriodStart, sub.CurrentPeriodStart)
		sub.CurrentPeriodEnd = either(first.CurrentPeriodEnd, sub.CurrentPeriodEnd)
	}
	return sub
}

// items decodes the items. Of an id that is there twice the last one counts, in the first one's place.
func (o *subscriptionObject) items() []Item {
	var items []Item
	at := map[string]int{}
	for _, object := range o.Items.Data {
		item := Item{
			ID:                 string(object.ID),
			PriceID:            either(object.Price.ID, object.Plan.ID),
			ProductID:          either(object.Price.Product, object.Plan.Product),
			Quantity:           object.Quantity.n,
			CurrentPeriodStart: either(object.Start.at, o.Start.at),
			CurrentPeriodEnd:   either(object.End.at, o.End.at),
			Metadata:           object.Metadata.orEmpty(),
		}
		if i, seen := at[item.ID]; seen {
			items[i] = item
			continue
		}
		at[item.ID] = len(items)
		items = append(items, item)
	}
	return items
}

func either[T comparable](first, second T) T {
	var zero T
	if first != zero {
		return first
	}
	return second
}

// text is a string or null. PostgreSQL's text holds no NUL, and the event has been cleaned of it.
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	var s string // null leaves it empty
	if json.Unmarshal(raw, &s) != nil {
		return errors.New("it is not a string")
	}
	*t = text(s)
	return nil
}

// flag is a boolean or null.
type flag bool

func (f *flag) UnmarshalJSON(raw []byte) error {
	var b bool
	if json.Unmarshal(raw, &b) != nil {
		return errors.New("it is neither true nor false")
	}
	*f = flag(b)
	return nil
}

// reference is an id, the expanded object of that id (deleted or not), or null.
type reference string

func (r *reference) UnmarshalJSON(raw []byte) error {
	if raw[0] != '{' {
		return (*text)(r).UnmarshalJSON(raw)
	}
	var object struct {
		ID text `json:"id"`
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return err
	}
	*r = reference(object.ID)
	return nil
}

// UnmarshalJSON takes a price or a plan: an object, its id alone, or null.
func (p *price) UnmarshalJSON(raw []byte) error {
	p.Product = ""
	if raw[0] != '{' {
		return (*text)(&p.ID).UnmarshalJSON(raw)
	}
	var object struct {
		ID      text      `json:"id"`
		Product reference `json:"product"`
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return err
	}
	p.ID, p.Product = string(object.ID), string(object.Product)
	return nil
}

// count is a whole number or null.
type count struct{ n *int64 }

func (c *count) UnmarshalJSON(raw []byte) error {
	n, err := whole(raw)
	c.n = n
	return err
}

// unixTime is a time in Unix seconds, or null.
type unixTime struct{ at *time.Time }

func (u *unixTime) UnmarshalJSON(raw []byte) error {
	u.at = nil
	seconds, err := whole(raw)
	if err != nil || seconds == nil {
		return err
	}
	if *seconds < 0 || *seconds > maxSecond {
		return errors.New("it is not a time in Unix seconds")
	}
	at := time.Unix(*seconds, 0).UTC()
	u.at = &at
	return nil
}

// whole reads a whole number of 64 bits, also one written like 1e3 or 5.0. Null is nil.
func whole(raw []byte) (*int64, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err == nil {
		return &n, nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<63 {
		return nil, errors.New("it is not a whole number of 64 bits")
	}
	n = int64(f)
	return &n, nil
}

// metadata holds strings. A value of another type is kept as its JSON text.
type metadata map[string]string

func (m *metadata) UnmarshalJSON(raw []byte) error {
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return errors.New("it is not an object")
	}
	*m = metadata{}
	for key, value := range values {
		var s string
		if json.Unmarshal(value, &s) != nil || strings.TrimSpace(string(value)) == "null" {
			s = string(value)
		}
		(*m)[key] = s
	}
	return nil
}

func (m metadata) orEmpty() map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
