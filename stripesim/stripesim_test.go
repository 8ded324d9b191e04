package stripesim_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
)

var start = stripesim.Epoch

func grown(seed uint64, life stripesim.Life) *stripesim.Account {
	account := stripesim.New(seed, start)
	account.Live(life)
	return account
}

// The same seed gives the same events, byte for byte, and the same deliveries.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	life := stripesim.Life{Subscriptions: 50, Bursts: true}
	a, b, other := grown(7, life), grown(7, life), grown(8, life)
	storm := stripesim.Wild
	planA, planB := storm.Plan(7, a.Events), storm.Plan(7, b.Events)
	if len(planA) != len(planB) {
		t.Fatalf("one seed gave %d and %d deliveries", len(planA), len(planB))
	}
	for i := range planA {
		if planA[i].Times != planB[i].Times || !bytes.Equal(planA[i].Event.Body, planB[i].Event.Body) {
			t.Fatalf("delivery %d differs under one seed", i)
		}
	}
	for i, sub := range a.Subscriptions {
		if !reflect.DeepEqual(sub.Truth(), b.Subscriptions[i].Truth()) {
			t.Errorf("the truth of %s differs under one seed", sub.ID())
		}
	}
	if bytes.Equal(a.Events[0].Body, other.Events[0].Body) {
		t.Error("two seeds gave the same event")
	}
}

type object = map[string]any

type event struct {
	ID, Type string
	Created  int64
	Data     struct {
		Object   object
		Previous object `json:"previous_attributes"`
	}
}

func decode(t *testing.T, body []byte) event {
	t.Helper()
	var ev event
	if err := json.Unmarshal(body, &ev); err != nil {
		t.Fatal(err)
	}
	return ev
}

// comparison drops null members, which to Stripe are the same as missing ones, and sorts the items, whose order has no
// meaning.
func comparison(o object) object {
	kept := object{}
	for key, value := range o {
		if inner, ok := value.(object); ok {
			kept[key] = comparison(inner)
		} else if list, ok := value.([]any); ok && key == "data" {
			kept[key] = slices.SortedFunc(slices.Values(list), func(a, b any) int { return strings.Compare(idOf(a), idOf(b)) })
		} else if value != nil {
			kept[key] = value
		}
	}
	return kept
}

func idOf(item any) string {
	id, _ := item.(object)["id"].(string)
	return id
}

// restore puts previous attributes back.
func restore(current, previous object) object {
	restored := object{}
	for key, value := range current {
		restored[key] = value
	}
	for key, old := range previous {
		inner, ok1 := old.(object)
		now, ok2 := current[key].(object)
		if ok1 && ok2 {
			restored[key] = restore(now, inner)
			continue
		}
		restored[key] = old
	}
	return restored
}

func firstItem(subscription object) string {
	list, _ := subscription["items"].(object)
	items, _ := list["data"].([]any)
	if len(items) == 0 {
		return ""
	}
	return idOf(items[0])
}

// Each update with its previous attributes put back is the object of the event before it. The last object is the truth.
func TestPreviousAttributes(t *testing.T) {
	t.Parallel()
	account := grown(3, stripesim.Life{Subscriptions: 100, Bursts: true})
	last := map[string]object{}
	updates, bursts, turned := 0, 0, 0
	lastSecond := map[string]int64{}
	for _, e := range account.Events {
		if e.ObjectID != e.SubscriptionID {
			continue
		}
		ev := decode(t, e.Body)
		before := last[e.ObjectID]
		if ev.Type == "customer.subscription.updated" {
			updates++
			if firstItem(ev.Data.Object) != firstItem(before) && ev.Data.Previous["items"] == nil {
				turned++
			}
			if got := restore(ev.Data.Object, ev.Data.Previous); !reflect.DeepEqual(comparison(got), comparison(before)) {
				t.Fatalf("%s with its previous attributes put back is not the object before it", ev.ID)
			}
			if lastSecond[e.ObjectID] == ev.Created {
				bursts++
			}
		} else if ev.Data.Previous != nil {
			t.Errorf("%s %s has previous attributes", ev.Type, ev.ID)
		}
		last[e.ObjectID], lastSecond[e.ObjectID] = ev.Data.Object, ev.Created
	}
	for _, sub := range account.Subscriptions {
		var truth object
		if err := json.Unmarshal(sub.Object(), &truth); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(comparison(truth), comparison(last[sub.ID()])) {
			t.Errorf("the last event of %s is not its object", sub.ID())
		}
	}
	if updates < 300 || bursts < 50 || turned < 30 {
		t.Errorf("only %d updates, %d within a second of another, %d with the items in another order", updates, bursts, turned)
	}
}

// The simulated life cycles reach every status and event type, in both shapes.
func TestLivesAreVaried(t *testing.T) {
	t.Parallel()
	slowUnderRace(t)
	account := grown(5, stripesim.Life{Subscriptions: 400})
	statuses, types, several, periods := map[string]int{}, map[string]int{}, 0, map[bool]int{}
	for _, sub := range account.Subscriptions {
		if len(sub.Truth().Items) > 1 {
			several++
		}
	}
	for _, e := range account.Events {
		types[e.Type]++
		if ev := decode(t, e.Body); e.ObjectID == e.SubscriptionID {
			_, old := ev.Data.Object["current_period_end"]
			periods[old]++
			status, _ := ev.Data.Object["status"].(string)
			statuses[status]++
		}
	}
	for _, status := range []string{"incomplete_expired", "active", "past_due", "canceled", "unpaid", "paused", "trialing"} {
		if statuses[status] == 0 {
			t.Errorf("no subscription is ever %s: %v", status, statuses)
		}
	}
	for _, eventType := range []string{"created", "updated", "deleted", "paused", "resumed", "trial_will_end"} {
		if types["customer.subscription."+eventType] == 0 {
			t.Errorf("no event is %s: %v", eventType, types)
		}
	}
	if several == 0 || periods[true] == 0 || periods[false] == 0 {
		t.Errorf("%d with several items, periods at the top and below: %v", several, periods)
	}
}

// The storms deliver as configured, each more out of order than the previous one.
func TestStorms(t *testing.T) {
	t.Parallel()
	account := grown(1, stripesim.Life{Subscriptions: 200})
	shape := func(name string) stripesim.Shape {
		storm, err := stripesim.NamedStorm(name)
		if err != nil {
			t.Fatal(err)
		}
		s := stripesim.Measure(storm.Plan(1, account.Events))
		if s.Events != len(account.Events) || s.Deliveries != s.Events+s.Duplicates {
			t.Errorf("%s: %+v of %d events", name, s, len(account.Events))
		}
		return s
	}
	mild, usual, wild := shape("mild"), shape("default"), shape("wild")
	if 4*usual.Duplicates < usual.Deliveries || 3*usual.Disordered < usual.Deliveries || usual.AtOnce == 0 {
		t.Errorf("the default storm is %+v: want a quarter duplicates and a third out of order", usual)
	}
	if mild.Duplicates >= usual.Duplicates || usual.Duplicates >= wild.Duplicates || mild.Disordered >= usual.Disordered || usual.Disordered >= wild.Disordered {
		t.Errorf("mild, default and wild are %+v, %+v, %+v", mild, usual, wild)
	}
	calm := stripesim.Measure(stripesim.Storm{}.Plan(1, account.Events))
	if calm.Duplicates != 0 || calm.Disordered != 0 {
		t.Errorf("no storm is %+v", calm)
	}
	if _, err := stripesim.NamedStorm("thunder"); err == nil {
		t.Error("there is a storm called thunder")
	}
}

// slowUnderRace skips a test of one goroutine under the race detector, which finds nothing in it and takes minutes.
func slowUnderRace(t *testing.T) {
	t.Helper()
	if pgtest.Race {
		t.Skip("it runs in one goroutine")
	}
}
