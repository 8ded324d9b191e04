package subscriptions

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/webhooks"
)

// maxID is the width, in characters, of the columns for ids that are indexed.
const maxID = 255

// maxSecond is the last second of the year 9999.
const maxSecond = 253402300799

// subscriptionObject is Stripe's subscription, decoded from any API version. Members that a version lacks stay zero.
type subscriptionObject struct {
	Object            text
	ID                text
	Customer          reference
	Status            text
	Currency          text
	CancelAtPeriodEnd flag
	CancelAt          unixTime
	CanceledAt        unixTime
	Created           unixTime
	EndedAt           unixTime
	TrialStart        unixTime
	TrialEnd          unixTime
	CollectionMethod  text
	LatestInvoice     reference
	Metadata          metadata
	Livemode          *bool
	Items             []itemObject
	MoreItems         bool  // Stripe's list says has_more
	period                  // before 2025-03-31.basil
	Plan              price // of the only item, or null if there are several
	Quantity          count

	// Optional members. A value of an unknown shape is left out and does not fail the event: Object has it anyway.
	PauseCollection      *PauseCollection
	CustomerAccount      string
	Schedule             string
	DefaultPaymentMethod string
	BillingMode          string
	Discounts            []string
	Discount             string // in versions before discounts
}

type period struct{ Start, End unixTime }

type price struct {
	ID      string
	Product string
}

// member reads one member of an object into a T.
type member[T any] struct {
	name string
	read func(into *T, raw []byte) error
}

// reader reads the members of an object that it knows. Keys are matched exactly. If a key is repeated, the last value
// counts, as in jsonb.
type reader[T any] struct {
	members []member[T]
	index   map[string]int // of a member, by its name
}

func newReader[T any](members []member[T]) *reader[T] {
	r := &reader[T]{members: members, index: map[string]int{}}
	for i, m := range members {
		r.index[m.name] = i
	}
	return r
}

// maxMembers is how many members a reader may know.
const maxMembers = 28

// values are the raw values of a reader's members, nil for a missing member.
type values [maxMembers][]byte

func (r *reader[T]) collect(v *values, key, value []byte) {
	if i, known := r.index[string(key)]; known {
		v[i] = value
	}
}

// read reads a text that is known to be an object.
func (r *reader[T]) read(object []byte, into *T) error {
	var v values
	rawjson.Members(object, func(key, value []byte) { r.collect(&v, key, value) })
	return r.decode(&v, into)
}

// check validates a JSON text and reads it as an object, in one pass.
func (r *reader[T]) check(raw []byte, into *T) (isObject bool, err error) {
	var v values
	valid, _ := rawjson.Walk(raw, 1, func(path [][]byte, value []byte) { r.collect(&v, path[0], value) })
	if !valid || !rawjson.IsObject(raw) {
		return false, nil
	}
	return true, r.decode(&v, into)
}

func (r *reader[T]) decode(v *values, into *T) error {
	for i, m := range r.members {
		if v[i] == nil {
			continue
		}
		if err := m.read(into, v[i]); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

var subscriptionReader = newReader([]member[subscriptionObject]{
	{"object", func(o *subscriptionObject, raw []byte) error { return o.Object.read(raw) }},
	{"id", func(o *subscriptionObject, raw []byte) error { return o.ID.read(raw) }},
	{"customer", func(o *subscriptionObject, raw []byte) error { return o.Customer.read(raw) }},
	{"status", func(o *subscriptionObject, raw []byte) error { return o.Status.read(raw) }},
	{"currency", func(o *subscriptionObject, raw []byte) error { return o.Currency.read(raw) }},
	{"cancel_at_period_end", func(o *subscriptionObject, raw []byte) error { return o.CancelAtPeriodEnd.read(raw) }},
	{"cancel_at", func(o *subscriptionObject, raw []byte) error { return o.CancelAt.read(raw) }},
	{"canceled_at", func(o *subscriptionObject, raw []byte) error { return o.CanceledAt.read(raw) }},
	{"created", func(o *subscriptionObject, raw []byte) error { return o.Created.read(raw) }},
	{"ended_at", func(o *subscriptionObject, raw []byte) error { return o.EndedAt.read(raw) }},
	{"trial_start", func(o *subscriptionObject, raw []byte) error { return o.TrialStart.read(raw) }},
	{"trial_end", func(o *subscriptionObject, raw []byte) error { return o.TrialEnd.read(raw) }},
	{"collection_method", func(o *subscriptionObject, raw []byte) error { return o.CollectionMethod.read(raw) }},
	{"latest_invoice", func(o *subscriptionObject, raw []byte) error { return o.LatestInvoice.read(raw) }},
	{"metadata", func(o *subscriptionObject, raw []byte) error { return o.Metadata.read(raw) }},
	{"livemode", readLivemode},
	{"items", readItems},
	{"current_period_start", func(o *subscriptionObject, raw []byte) error { return o.Start.read(raw) }},
	{"current_period_end", func(o *subscriptionObject, raw []byte) error { return o.End.read(raw) }},
	{"plan", func(o *subscriptionObject, raw []byte) error { return o.Plan.read(raw) }},
	{"quantity", func(o *subscriptionObject, raw []byte) error { return o.Quantity.read(raw) }},
	{"pause_collection", optional(func(o *subscriptionObject, raw []byte) { o.PauseCollection = readPause(raw) })},
	{"customer_account", optional(func(o *subscriptionObject, raw []byte) { o.CustomerAccount = textOrMember(raw, "id") })},
	{"schedule", optional(func(o *subscriptionObject, raw []byte) { o.Schedule = textOrMember(raw, "id") })},
	{"default_payment_method", optional(func(o *subscriptionObject, raw []byte) { o.DefaultPaymentMethod = textOrMember(raw, "id") })},
	{"billing_mode", optional(func(o *subscriptionObject, raw []byte) { o.BillingMode = textOrMember(raw, "type") })},
	{"discounts", optional(func(o *subscriptionObject, raw []byte) { o.Discounts = readIDs(raw) })},
	{"discount", optional(func(o *subscriptionObject, raw []byte) { o.Discount = textOrMember(raw, "id") })},
})

// optional returns a reader of a member whose value never fails the event.
func optional(read func(o *subscriptionObject, raw []byte)) func(*subscriptionObject, []byte) error {
	return func(o *subscriptionObject, raw []byte) error {
		read(o, raw)
		return nil
	}
}

func readLivemode(o *subscriptionObject, raw []byte) error {
	var mode flag
	if err := mode.read(raw); err != nil || rawjson.IsNull(raw) {
		return err
	}
	o.Livemode = (*bool)(&mode)
	return nil
}

// decode reads the subscription of an event. Its errors name the field. They fail the event and are kept in its
// failure record.
func decode(ev *webhooks.Event) (*Subscription, error) {
	object, err := parseObject(ev)
	if err != nil {
		return nil, err
	}
	if object.Object != "" && object.Object != "subscription" {
		return nil, unreadable("%s carries another object than a subscription", ev.Type)
	}
	if err := checkIDs(object); err != nil {
		return nil, err
	}
	object.dropRepeated()
	return object.subscription(ev), nil
}

func parseObject(ev *webhooks.Event) (*subscriptionObject, error) {
	object := &subscriptionObject{}
	isObject, err := subscriptionReader.check(bytes.TrimSpace(ev.Object), object)
	if !isObject {
		return nil, unreadable("%s without a data.object that is a JSON object of at most 512 levels", ev.Type)
	}
	if err != nil {
		return nil, unreadable("the subscription's %v", err)
	}
	return object, nil
}

// unreadable returns the error of decode.
func unreadable(format string, args ...any) error {
	return &engine.UnreadableError{Object: "subscription", Reason: fmt.Sprintf(format, args...)}
}

func checkIDs(o *subscriptionObject) error {
	if o.ID == "" {
		return unreadable("the subscription has no id")
	}
	if o.Status == "" {
		return unreadable("the subscription has no status")
	}
	for i, item := range o.Items {
		if item.ID == "" {
			return unreadable("items.data[%d].id is missing", i)
		}
		if tooLong(item.ID) {
			return unreadable("the subscription's items.data[%d].id is longer than %d characters", i, maxID)
		}
	}
	if tooLong(o.ID) {
		return unreadable("the subscription's id is longer than %d characters", maxID)
	}
	if tooLong(text(o.Customer)) {
		return unreadable("the subscription's customer is longer than %d characters", maxID)
	}
	return nil
}

func tooLong(id text) bool { return len(id) > maxID && utf8.RuneCountInString(string(id)) > maxID }

func (o *subscriptionObject) subscription(ev *webhooks.Event) *Subscription {
	sub := &Subscription{
		ID:                     string(o.ID),
		CustomerID:             string(o.Customer),
		Status:                 Status(o.Status),
		PriceID:                o.Plan.ID,
		Quantity:               o.Quantity.n,
		Currency:               string(o.Currency),
		CancelAtPeriodEnd:      bool(o.CancelAtPeriodEnd),
		CancelAt:               o.CancelAt.at,
		CanceledAt:             o.CanceledAt.at,
		EndedAt:                o.EndedAt.at,
		CurrentPeriodStart:     o.Start.at,
		CurrentPeriodEnd:       o.End.at,
		TrialStart:             o.TrialStart.at,
		TrialEnd:               o.TrialEnd.at,
		CollectionMethod:       string(o.CollectionMethod),
		LatestInvoiceID:        string(o.LatestInvoice),
		PauseCollection:        o.PauseCollection,
		CustomerAccountID:      o.CustomerAccount,
		ScheduleID:             o.Schedule,
		DefaultPaymentMethodID: o.DefaultPaymentMethod,
		BillingMode:            o.BillingMode,
		DiscountIDs:            o.Discounts,
		Metadata:               o.Metadata.orEmpty(),
		Livemode:               ev.Livemode,
		AccountID:              ev.Account,
		Created:                o.Created.at,
		Items:                  o.items(),
		ItemsComplete:          !o.MoreItems,
		Object:                 ev.Object,
		LastEventID:            ev.ID,
		LastEventCreatedAt:     engine.CreatedAt(ev),
	}
	if len(sub.DiscountIDs) == 0 && o.Discount != "" {
		sub.DiscountIDs = []string{o.Discount}
	}
	if o.Livemode != nil {
		sub.Livemode = *o.Livemode
	}
	if oldest := o.oldest(); oldest >= 0 {
		item := &sub.Items[oldest]
		sub.PriceID = either(item.PriceID, sub.PriceID)
		sub.Quantity = either(item.Quantity, sub.Quantity)
		sub.CurrentPeriodStart = either(item.CurrentPeriodStart, sub.CurrentPeriodStart)
		sub.CurrentPeriodEnd = either(item.CurrentPeriodEnd, sub.CurrentPeriodEnd)
	}
	return sub
}

func either[T comparable](first, second T) T {
	var zero T
	if first != zero {
		return first
	}
	return second
}
