package stripesim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// The API versions of the two shapes of subscriptions. Before 2025-03-31.basil a subscription has its period at the top
// level, since then on each item. See https://docs.stripe.com/changelog/basil.
const (
	VersionBeforeBasil = "2024-06-20"
	VersionBasil       = "2025-03-31.basil"
)

// Epoch is the usual start of a simulated account's clock: Monday, 1 January 2024.
var Epoch = time.Date(2024, 1, 1, 9, 0, 0, 0, time.UTC)

// Account is the simulated account. Create it with New. It is not safe for concurrent use: while an API serves it, change it within
// API.Do.
type Account struct {
	// ID is the account's id (acct_…), which the events of a connected account have. Empty: the platform's own, whose events
	// name no account.
	ID string
	// Organization is the organization (org_…) that all events come from. Their context then names the account.
	Organization string
	// APIVersion is that of the events: VersionBeforeBasil or VersionBasil. Empty: half of the subscriptions that Live and Play
	// create have the one, half the other, as if the endpoint were upgraded meanwhile.
	APIVersion string
	// Connected are the ids of connected accounts. One new subscription in four belongs to one of them.
	Connected []string
	// Billing creates every event that Stripe creates of customers, products, prices, invoices, entitlements and the types in
	// BillingTypes, and Live then changes these by themselves, too. Without it they exist, but the events are only those of
	// subscriptions and the most important ones of their invoices: invoice.created (of renewals), paid, payment_failed, voided and
	// marked_uncollectible. The events of subscriptions have the same ids and types either way.
	Billing bool

	Seed          uint64
	Now           int64 // the account's clock, in Unix seconds
	Events        []*Event
	Subscriptions []*Subscription
	// The other objects, in the order of their creation, also the deleted ones. A product that was created again is there once.
	Customers []*Customer
	Products  []*Product
	Prices    []*Price
	Invoices  []*Invoice
	Features  []*Feature

	PaymentIntents   []*PaymentIntent
	Charges          []*Charge
	Refunds          []*Refund
	Disputes         []*Dispute
	PaymentMethods   []*PaymentMethod
	SetupIntents     []*SetupIntent
	CheckoutSessions []*CheckoutSession
	CreditNotes      []*CreditNote
	Schedules        []*Schedule
	Coupons          []*Coupon
	PromotionCodes   []*PromotionCode
	TaxIDs           []*TaxID
	Payouts          []*Payout

	random   *rand.Rand
	billing  *rand.Rand          // of customers, products, prices and invoices, so that subscriptions are as without Billing
	others   *rand.Rand          // of all other objects, for the same reason
	added    int                 // the events with ids from billing and others
	numbered int                 // the invoices that have a number
	credited int                 // the credit notes
	stored   []stored            // all objects but subscriptions
	replaced []stored            // deleted products and coupons that were created again
	byID     map[string][]stored // stored and replaced, by type and id
	clocks   []*TestClock
	unheard  []object // the thin events about events that could not be generated
}

// context is an account's path in an event's context.
func (a *Account) context(id string) any {
	if a.Organization != "" {
		return a.Organization + "/" + id
	}
	return stripeobject.OrNull(id)
}

// owner draws the id of the account of a new subscription.
func (a *Account) owner() string {
	if len(a.Connected) == 0 || a.random.IntN(4) > 0 {
		return a.ID
	}
	return a.Connected[a.random.IntN(len(a.Connected))]
}

// Event is one event as Stripe would deliver it. One of your own has no thin form: only the exported fields, of which deliveries use
// ID, Type, Created, ObjectID, SubscriptionID and Body.
type Event struct {
	ID       string
	Type     string
	Created  int64
	ObjectID string
	// SubscriptionID is the id of the event's subscription, or of the subscription of the event's invoice; empty: of neither.
	SubscriptionID string
	// AccountID is the account of the event; empty: the platform's own.
	AccountID string
	// Body is the event in the API version of the subscription, or of the other object.
	Body []byte

	account  *Account
	customer string // of the event's object
	request  string
	render   rendering
}

// New returns an account without subscriptions, whose clock begins at start. Accounts with the same seed, start and
// sequence of calls create the same events, byte for byte.
func New(seed uint64, start time.Time) *Account {
	return &Account{
		Seed: seed, Now: start.Unix(), random: rand.New(rand.NewPCG(seed, 0x57f1be)), billing: rand.New(rand.NewPCG(seed, 0xb111)),
		others: rand.New(rand.NewPCG(seed, 0x07e5)),
	}
}

// Wait advances the account's clock. Events without a Wait in between are of the same second.
func (a *Account) Wait(d time.Duration) { a.Now += int64(d / time.Second) }

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// id returns an id in Stripe's form: a prefix and random letters, such as sub_1NvKoKIGBnsLynRrcLIAUWGf.
func (a *Account) id(prefix string, letters int) string { return newID(a.random, prefix, letters) }

func newID(random *rand.Rand, prefix string, letters int) string {
	text := make([]byte, letters)
	for i := range text {
		text[i] = base62[random.IntN(len(base62))]
	}
	return prefix + string(text)
}

// object is a Stripe object as JSON decodes it.
type object = stripeobject.Object

// rendering returns an event's object and its previous attributes (nil except for updates) in an API version.
type rendering func(version string) (about, previous object)

// emit creates an event of a subscription.
func (a *Account) emit(s *Subscription, eventType string, render rendering) {
	a.add(&Event{AccountID: s.AccountID, Type: eventType, SubscriptionID: s.state.ID, render: render}, s.version, a.random)
}

// withoutBilling are the events of invoices that an account without Billing has. Of invoice.created, it has only those of renewals.
var withoutBilling = []string{
	"invoice.created", "invoice.paid", "invoice.payment_failed", "invoice.voided", "invoice.marked_uncollectible",
}

// has reports whether the account has events of a type whose ids are from a source.
func (a *Account) has(eventType string, random *rand.Rand) bool {
	return a.Billing || strings.HasPrefix(eventType, "customer.subscription.") ||
		slices.Contains(withoutBilling, eventType) && (random == a.random || eventType != "invoice.created")
}

// add completes an event and adds it, if the account has such events.
func (a *Account) add(ev *Event, version string, random *rand.Rand) (added bool) {
	ev.account, ev.Created = a, a.Now
	ev.ID, ev.request = newID(random, "evt_1", 23), newID(random, "req_", 14)
	if !a.has(ev.Type, random) {
		return false
	}
	about, _ := ev.render(version)
	ev.ObjectID, _ = about["id"].(string)
	ev.Body = ev.In(version)
	a.Events = append(a.Events, ev)
	if random != a.random {
		a.added++
	}
	return true
}

// In returns the event as rendered in an API version, by an endpoint or the Events API.
func (ev *Event) In(version string) []byte { return marshal(ev.object(version)) }

func (ev *Event) object(version string) object {
	about, previous := ev.render(version)
	data := object{"object": about}
	if previous != nil {
		data["previous_attributes"] = previous
	}
	o := object{
		"id":               ev.ID,
		"object":           "event",
		"api_version":      version,
		"created":          ev.Created,
		"data":             data,
		"livemode":         false,
		"pending_webhooks": 1,
		"request":          object{"id": ev.request, "idempotency_key": nil},
		"type":             ev.Type,
	}
	switch {
	case ev.account.Organization != "":
		o["context"] = ev.account.context(ev.AccountID)
	case ev.AccountID != "":
		o["account"] = ev.AccountID
	}
	return o
}

// marshal renders as Stripe does, indented by two spaces.
func marshal(value any) []byte {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("stripesim: %v", err)) // only for values that are not JSON
	}
	return text
}
