// Package stripesim is a simulated Stripe account: subscriptions that live as Stripe's do, and the
// events that Stripe would make of it, in the shapes of its API. Everything follows from a seed.
package stripesim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// The two generations of shapes: before 2025-03-31.basil a subscription has its period at the top, since
// then on each item. See https://docs.stripe.com/changelog/basil.
const (
	VersionBeforeBasil = "2024-06-20"
	VersionBasil       = "2025-03-31.basil"
)

// Epoch is where the clock of a simulated account usually begins: Monday, 5 January 2026.
var Epoch = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)

// Account is the simulated account. It is not safe for concurrent use.
type Account struct {
	Seed          uint64
	Now           int64 // the account's clock, in Unix seconds
	Events        []*Event
	Subscriptions []*Subscription

	random *rand.Rand
}

// Event is one event as Stripe would deliver it.
type Event struct {
	ID       string
	Type     string
	Created  int64
	ObjectID string
	// SubscriptionID is the subscription that the event is about, directly or through its invoice.
	SubscriptionID string
	// Body is the event in the API version of the endpoint, which in this account goes by subscription.
	Body []byte

	request string
	render  rendering
}

// New returns an account without subscriptions, whose clock stands at start. Two accounts of one seed
// and start to which the same is done make the same events, byte for byte.
func New(seed uint64, start time.Time) *Account {
	return &Account{Seed: seed, Now: start.Unix(), random: rand.New(rand.NewPCG(seed, 0x57f1be))}
}

// Wait lets the account's clock run on. Events within one Wait are of one second, in the order made.
func (a *Account) Wait(d time.Duration) { a.Now += int64(d / time.Second) }

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// id makes an id as Stripe's look: a prefix and random letters, such as sub_1NvKoKIGBnsLynRrcLIAUWGf.
func (a *Account) id(prefix string, letters int) string {
	text := make([]byte, letters)
	for i := range text {
		text[i] = base62[a.random.IntN(len(base62))]
	}
	return prefix + string(text)
}

// object is a Stripe object as JSON decodes it.
type object = map[string]any

// rendering gives an event's object and its previous attributes (nil but for updates) in an API version.
type rendering func(version string) (about, previous object)

// emit makes an event of a subscription.
func (a *Account) emit(s *Subscription, eventType string, render rendering) {
	ev := &Event{
		ID: a.id("evt_1", 23), Type: eventType, Created: a.Now, SubscriptionID: s.state.ID,
		request: a.id("req_", 14), render: render,
	}
	about, _ := render(s.version)
	ev.ObjectID, _ = about["id"].(string)
	ev.Body = ev.In(s.version)
	a.Events = append(a.Events, ev)
}

// In is the event as an endpoint, or the Events API, of an API version gives it.
func (ev *Event) In(version string) []byte { return marshal(ev.object(version)) }

func (ev *Event) object(version string) object {
	about, previous := ev.render(version)
	data := object{"object": about}
	if previous != nil {
		data["previous_attributes"] = previous
	}
	return object{
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
}

// marshal renders as Stripe does, indented by two spaces.
func marshal(value any) []byte {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("stripesim: %v", err)) // only values that are no JSON
	}
	return text
}
