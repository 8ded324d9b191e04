package ordering

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

var subscription = Rules{Created: "customer.subscription.created", Lists: []string{"items"}}

// burst makes a subscription take steps within one second. It returns the subscription's events in Stripe's order, and
// Stripe's last object.
func burst(tb fataler, seed uint64, steps []int, withCreation bool) (events []Occurrence, truth string) {
	account := stripesim.New(seed, stripesim.Epoch)
	sub := account.Subscribe(stripesim.VersionBasil)
	from := 0
	if !withCreation {
		account.Wait(time.Hour)
		from = len(account.Events)
	}
	for _, n := range steps {
		sub.Step(n)
	}
	for _, e := range account.Events[from:] {
		if e.ObjectID != sub.ID() {
			continue
		}
		ev, err := webhooks.ParseEvent(e.Body)
		if err != nil {
			tb.Fatalf("%v", err)
		}
		events = append(events, Occurrence{ID: ev.ID, Type: ev.Type, APIVersion: ev.APIVersion, Object: ev.Object, Previous: ev.Previous})
	}
	// A terminal status is newer than any other, so only events with a terminal status compete, if there are any.
	terminal := ended(sub.Status())
	var rivals []Occurrence
	for _, o := range events {
		var object struct{ Status string }
		if err := json.Unmarshal(o.Object, &object); err != nil {
			tb.Fatalf("%v", err)
		}
		if ended(object.Status) == terminal {
			rivals = append(rivals, o)
		}
	}
	return rivals, subscription.Canonical(Decode(sub.Object()))
}

func ended(status string) bool { return status == "canceled" || status == "incomplete_expired" }

type fataler interface {
	Fatalf(format string, args ...any)
}

func grow(events []Occurrence) []Occurrence {
	var set []Occurrence
	for _, o := range events {
		set = With(set, o)
	}
	return set
}

// If the events of a second settle their order, the result is Stripe's. Settled or not, every order of arrival gives the
// same result.
func TestLastOfABurst(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 99), 1, 7).Draw(t, "steps")
		events, truth := burst(t, rapid.Uint64().Draw(t, "seed"), steps, rapid.Bool().Draw(t, "with the creation"))
		if len(events) == 0 {
			return
		}
		winner, settled := subscription.Last(grow(events))
		if got := subscription.Canonical(Decode(winner.Object)); settled && got != truth {
			t.Fatalf("of %s the last should be %s, but Stripe's object is\n%s\nand not\n%s", describe(events), winner.ID, truth, got)
		}
		shuffled := rapid.Permutation(events).Draw(t, "arrival")
		again, settledAgain := subscription.Last(grow(append(shuffled, shuffled[0])))
		if again.ID != winner.ID || settledAgain != settled {
			t.Fatalf("%s ends with %s, %v, and in another order with %s, %v", describe(events), winner.ID, settled, again.ID, settledAgain)
		}
	})
}

func describe(events []Occurrence) string {
	var text string
	for _, o := range events {
		text += fmt.Sprintf("\n  %s %s %s", o.ID, o.Type, o.Previous)
	}
	return text
}

// Nearly every burst is settled without a refetch.
func TestBurstsAreMostlySettled(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	bursts := 2000
	if pgtest.Quick() {
		bursts = 300
	}
	unsettled := 0
	for seed := range bursts {
		steps := make([]int, 2+random.IntN(3))
		for i := range steps {
			steps[i] = random.IntN(100)
		}
		events, _ := burst(t, uint64(seed), steps, random.IntN(2) == 0)
		if len(events) == 0 {
			continue
		}
		if _, settled := subscription.Last(grow(events)); !settled {
			unsettled++
		}
	}
	if unsettled > bursts/50 {
		t.Errorf("%d of %d bursts are not settled", unsettled, bursts)
	}
	t.Logf("%d of %d bursts are not settled", unsettled, bursts)
}

// Handwritten events, for sequences that the simulation does not make. States are metadata. "a>b" is an update from a to
// b, "+a" the creation, and "=a" an event without previous attributes.
func TestLast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		events  []string // by ascending id
		last    int
		settled bool
	}{
		{[]string{"+a"}, 0, true},
		{[]string{"a>b"}, 0, true},
		{[]string{"a>b", "b>c", "c>d"}, 2, true},
		{[]string{"c>d", "b>c", "a>b"}, 0, true},
		{[]string{"a>b", "+a"}, 0, true},
		{[]string{"=b", "+a"}, 0, true},                         // the event after the creation is newer
		{[]string{"+a", "a>b", "b>a"}, 2, true},                 // there and back, from the creation
		{[]string{"a>b", "b>a", "a>c"}, 2, true},                // there and back, and on
		{[]string{"a>b", "=b"}, 1, true},                        // a pause has the state that its update led to
		{[]string{"a>b", "b>a"}, 1, false},                      // a circle may end anywhere
		{[]string{"a>b", "c>d"}, 1, false},                      // a step is missing between
		{[]string{"a>b", "a>c"}, 1, false},                      // two ways from one state
		{[]string{"=a", "=b"}, 1, false},                        // nothing settles the order
		{[]string{"a>b", "=c"}, 1, false},                       // a state that is not on the walk
		{[]string{"a>b", "a>b"}, 1, true},                       // two events of one change
		{[]string{"a>b", "b>a", "a>b"}, 2, false},               // one change twice, or two events of it
		{[]string{"a>b", "b>a", "c>d"}, 2, false},               // a circle that is not on the walk
		{[]string{"a>b", "b>c", "c>b", "b>c", "c>a"}, 4, false}, // a circle with a step taken twice
		{[]string{"+a", "a>b", "b>a", "a>b"}, 3, false},         // the change made again, or a second event of it
		{[]string{"+a", "a>b", "b>a", "a>b", "a>b"}, 4, false},
		{[]string{"c>d", "a>b", "b>c", "x>y", "b>z"}, 4, false}, // the tie-break: not followed, and the greatest id
		{[]string{"y>z", "a>b", "b>c", "p>a"}, 2, false},        // the tie-break skips a>b and p>a, which are followed
		{[]string{"b>c", "+x", "a>b"}, 0, true},                 // the creation's next step has not arrived yet
		{[]string{"a>b", "b>c", "c>a", "a>d"}, 3, true},         // a circle on the walk
	} {
		var set []Occurrence
		for i, text := range c.events {
			set = With(set, byHand(fmt.Sprintf("evt_%d", i), text))
		}
		want := set[c.last]
		got, settled := subscription.Last(set)
		if got.ID != want.ID || settled != c.settled {
			t.Errorf("%v: the last is %s, %v, want %s, %v", c.events, got.ID, settled, want.ID, c.settled)
		}
	}
}

// Every walk of up to five steps over four states, with or without a creation, and with or without a second event of one
// step. If the end is settled, it is the walk's end.
func TestEveryShortWalk(t *testing.T) {
	t.Parallel()
	const states = "abcd"
	settledWalks := 0
	var walk func(path string)
	check := func(path string, created bool, repeated int) {
		var set []Occurrence
		add := func(text string) { set = With(set, byHand(fmt.Sprintf("evt_%02d", len(set)), text)) }
		if created {
			add("+" + path[:1])
		}
		for i := 1; i < len(path); i++ {
			add(path[i-1:i] + ">" + path[i:i+1])
		}
		if repeated > 0 {
			add(path[repeated-1:repeated] + ">" + path[repeated:repeated+1])
		}
		winner, settled := subscription.Last(set)
		if want := byHand("", "="+path[len(path)-1:]); settled && Canonical(Decode(winner.Object)) != Canonical(Decode(want.Object)) {
			t.Fatalf("the walk %s (created %v, two events of step %d) ends in %s", path, created, repeated, winner.Object)
		}
		if settled {
			settledWalks++
		}
	}
	walk = func(path string) {
		if len(path) > 1 {
			for repeated := range len(path) {
				check(path, false, repeated)
				check(path, true, repeated)
			}
		}
		if len(path) == 6 {
			return
		}
		for _, next := range states {
			if path == "" || path[len(path)-1] != byte(next) {
				walk(path + string(next))
			}
		}
	}
	walk("a")
	if settledWalks < 500 {
		t.Errorf("only %d walks are settled", settledWalks)
	}
}

func byHand(id, text string) Occurrence {
	state := func(name string) json.RawMessage {
		return json.RawMessage(`{"id":"sub_1","metadata":{"state":"` + name + `"},"status":"active"}`)
	}
	o := Occurrence{ID: id, Type: "customer.subscription.updated", Object: state(text[len(text)-1:])}
	switch {
	case text[0] == '+':
		o.Type = subscription.Created
	case text[0] != '=':
		o.Previous = json.RawMessage(`{"metadata":{"state":"` + text[:1] + `"}}`)
	}
	return o
}

// The set is bounded, and keeps the same events for every order of arrival.
func TestSetIsBounded(t *testing.T) {
	t.Parallel()
	var events []Occurrence
	for i := range 3 * maxNewest {
		events = append(events, byHand(fmt.Sprintf("evt_%04d", i), "a>b"))
	}
	forward := grow(events)
	rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	shuffled := grow(events)
	if len(forward) != maxNewest || describe(forward) != describe(shuffled) {
		t.Errorf("the sets have %d and %d events, or others", len(forward), len(shuffled))
	}
}

// An object with its previous attributes put back is the object before the update.
func TestRestored(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, object, previous, want string }{
		{"a value", `{"a":1,"b":2}`, `{"a":0}`, `{"a":0,"b":2}`},
		{"null: it was not set", `{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		{"it is gone now", `{"b":2}`, `{"a":1}`, `{"a":1,"b":2}`},
		{"a nested hash, in part", `{"m":{"x":1,"y":2}}`, `{"m":{"x":0}}`, `{"m":{"x":0,"y":2}}`},
		{"a nested key that was not set", `{"m":{"x":1,"y":2}}`, `{"m":{"x":null}}`, `{"m":{"y":2}}`},
		{"a hash that was not set", `{"m":{"x":1}}`, `{"m":null}`, `{}`},
		{"a hash that is not set now", `{"m":null}`, `{"m":{"x":1}}`, `{"m":{"x":1}}`},
		{"an array, whole", `{"l":[1,2,3]}`, `{"l":[1]}`, `{"l":[1]}`},
		{"items, whole below a hash", `{"items":{"data":[{"id":"b"}],"total_count":1}}`, `{"items":{"data":[{"id":"a"},{"id":"b"}],"total_count":2}}`,
			`{"items":{"data":[{"id":"a"},{"id":"b"}],"total_count":2}}`},
		{"a large number", `{"n":12345678901234567890}`, `{"n":12345678901234567891}`, `{"n":12345678901234567891}`},
		{"empty hashes as PHP encodes them", `{"metadata":{"a":"1"},"plan":{"metadata":[]}}`, `{"metadata":{"a":null}}`, `{"metadata":[],"plan":{"metadata":{}}}`},
		{"a hash that PHP encodes as empty", `{"metadata":[]}`, `{"metadata":{"a":"1"}}`, `{"metadata":{"a":"1"}}`},
		{"numbers as jsonb writes them", `{"a":1e2,"b":-0,"c":1.50,"d":2e-2}`, `{}`, `{"a":100,"b":0,"c":1.5,"d":0.020}`},
		{"a value that was a hash", `{"a":1}`, `{"a":{"x":1}}`, `{"a":{"x":1}}`},
	} {
		got := Canonical(restored(Decode(json.RawMessage(c.object)), Decode(json.RawMessage(c.previous))))
		if want := Canonical(Decode(json.RawMessage(c.want))); got != want {
			t.Errorf("%s: %s with %s put back is %s, want %s", c.name, c.object, c.previous, got, want)
		}
	}
}

// The chain of three updates of one second is found although each lists the items in another order, which previous
// attributes do not show.
func TestLastWithItemsInAnyOrder(t *testing.T) {
	t.Parallel()
	update := func(id, items, method, before string) Occurrence {
		return Occurrence{
			ID: id, Type: "customer.subscription.updated",
			Object:   json.RawMessage(`{"id":"sub_1","default_payment_method":"` + method + `","items":{"data":[` + items + `]}}`),
			Previous: json.RawMessage(`{"default_payment_method":` + before + `}`),
		}
	}
	const a, b, c = `{"id":"si_a"}`, `{"id":"si_b"}`, `{"id":"si_c"}`
	set := grow([]Occurrence{
		update("evt_3", a+","+b+","+c, "pm_1", "null"),
		update("evt_2", c+","+b+","+a, "pm_2", `"pm_1"`),
		update("evt_1", b+","+a+","+c, "pm_3", `"pm_2"`),
	})
	if winner, settled := subscription.Last(set); winner.ID != "evt_1" || !settled {
		t.Errorf("the last is %s, %v", winner.ID, settled)
	}
	for i, o := range set {
		if want := []string{b + "," + a, c + "," + b, a + "," + b}[i]; !strings.Contains(string(o.Object), want) {
			t.Errorf("comparing the states has changed %s", o.Object)
		}
	}
}
