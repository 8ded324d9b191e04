package stripesim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Storm configures how a simulated Stripe delivers: how far out of order, and with how many duplicates. The zero value
// delivers everything once and in order, which the real Stripe does not promise. (As Simulation.Storm it means Default.)
type Storm struct {
	Name string // empty for one's own
	// Disorder is the share of deliveries that are late, from 0 to 1. None is early: at Stripe, an event cannot arrive before it
	// happened. With 0, one subscription's deliveries (or those of
	// another object) are made one after the other: each begins when the one before it was accepted or given up.
	Disorder float64
	// Window is how many of the later events of its subscription, with its invoices, may overtake a late delivery. An event of no
	// subscription is late among the events of its object.
	Window int
	// Duplicates is the share of events that are delivered more than once, from 0 to 1, and MaxDuplicates the maximum number
	// of deliveries of one event.
	Duplicates    float64
	MaxDuplicates int
	// Concurrent is the share of duplicates that arrive at the same instant as the first delivery, from 0 to 1.
	Concurrent float64
	// Thin says in which form events are delivered. It does not change the rest of the plan.
	Thin Thin
}

// Thin says in which form events are delivered.
type Thin string

// The forms of a storm.
const (
	SnapshotOnly Thin = ""     // as snapshot events
	ThinOnly     Thin = "only" // as thin events, but for those of entitlements, whose object cannot be fetched
	ThinAndTwin  Thin = "both" // each in both forms: during a migration both destinations exist
)

// Form is the form of one delivery.
type Form int

// The forms of a delivery.
const (
	Snapshot    Form = iota
	ThinNamed        // a thin event that names its snapshot event
	ThinUnnamed      // a thin event without the member snapshot_event, as older notifications are
)

// formOf draws the form of a thin delivery.
func formOf(random *rand.Rand) Form {
	if random.IntN(2) == 0 {
		return ThinNamed
	}
	return ThinUnnamed
}

// The storms that have names. Default is that of simulations and commands unless they say otherwise. None delivers everything once
// and in order.
var (
	None    = Storm{Name: "none"}
	Mild    = Storm{Name: "mild", Disorder: 0.1, Window: 3, Duplicates: 0.15, MaxDuplicates: 2, Concurrent: 0.3}
	Default = Storm{Name: "default", Disorder: 0.7, Window: 10, Duplicates: 0.4, MaxDuplicates: 4, Concurrent: 0.5}
	Wild    = Storm{Name: "wild", Disorder: 0.95, Window: 40, Duplicates: 0.8, MaxDuplicates: 8, Concurrent: 0.5}
)

// NamedStorm returns the storm named none, mild, default or wild.
func NamedStorm(name string) (Storm, error) {
	for _, storm := range []Storm{None, Mild, Default, Wild} {
		if storm.Name == name {
			return storm, nil
		}
	}
	return Storm{}, fmt.Errorf("storm %q: use none, mild, default or wild", name)
}

// Delivery is one delivery of an event to an endpoint, or several at the same instant.
type Delivery struct {
	Event *Event
	Times int // at the same instant
	Form  Form
	// InOrder lets the delivery begin only when the one before it of the same subscription, or of the same object if it has none,
	// was accepted or given up.
	InOrder bool
}

// Body returns what is delivered.
func (d Delivery) Body() []byte {
	if d.Form == Snapshot {
		return d.Event.Body
	}
	return d.Event.Thin(d.Form == ThinNamed)
}

// Plan returns the deliveries of events, with duplicates, in their order. The same seed and events give the same plan.
func (s Storm) Plan(seed uint64, events []*Event) []Delivery {
	window, places := max(s.Window, 0), map[string][]int{} // of the events of each subscription, or of another object
	random, forms := rand.New(rand.NewPCG(seed, 0x5702a)), rand.New(rand.NewPCG(seed, 0x741))
	type placed struct {
		place float64
		Delivery
	}
	var queue []placed
	for i, ev := range events {
		places[ev.group()] = append(places[ev.group()], i)
	}
	nth := map[string]int{}
	for _, ev := range events {
		own, n := places[ev.group()], nth[ev.group()]
		nth[ev.group()]++
		first := placed{float64(own[n]), Delivery{Event: ev, Times: 1}}
		if random.Float64() < s.Disorder {
			first.place = at(own, n+random.IntN(window+1)) + random.Float64()
		}
		for range s.duplicates(random) {
			if random.Float64() < s.Concurrent {
				first.Times++
				continue
			}
			queue = append(queue, placed{at(own, n+random.IntN(window+1)) + random.Float64(), Delivery{Event: ev, Times: 1}})
		}
		queue = append(queue, first)
		if s.Thin == ThinAndTwin {
			twin := Delivery{Event: ev, Times: 1, Form: formOf(forms)}
			queue = append(queue, placed{at(own, n+forms.IntN(window+1)) + forms.Float64(), twin})
		}
	}
	if s.Thin == ThinOnly {
		for i := range queue {
			queue[i].Form = formOf(forms)
		}
	}
	slices.SortStableFunc(queue, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	plan := make([]Delivery, len(queue))
	for i, p := range queue {
		plan[i] = p.Delivery
		plan[i].InOrder = s.Disorder == 0
	}
	return plan
}

// group is the id by which events are out of order.
func (ev *Event) group() string { return cmp.Or(ev.SubscriptionID, ev.ObjectID, ev.customer) }

// at returns the nth of places, or the first or last if n is out of range.
func at(places []int, n int) float64 { return float64(places[min(max(n, 0), len(places)-1)]) }

func (s Storm) duplicates(random *rand.Rand) int {
	if s.MaxDuplicates < 2 || random.Float64() >= s.Duplicates {
		return 0
	}
	return 1 + random.IntN(s.MaxDuplicates-1)
}

// Shape counts the deliveries of a plan.
type Shape struct {
	Events     int
	Deliveries int
	Duplicates int // deliveries of an event that was delivered before
	AtOnce     int // duplicates at the same instant as another delivery of the event
	Disordered int // deliveries after a newer event of the same subscription, or of the same object if it has none
}

// Add returns the sum of two shapes.
func (s Shape) Add(other Shape) Shape {
	return Shape{
		s.Events + other.Events, s.Deliveries + other.Deliveries, s.Duplicates + other.Duplicates,
		s.AtOnce + other.AtOnce, s.Disordered + other.Disordered,
	}
}

// Measure returns the shape of a plan.
func Measure(plan []Delivery) Shape {
	var shape Shape
	seen := map[string]bool{}
	newest := map[string]int64{}
	for _, d := range plan {
		shape.Deliveries += d.Times
		sub := d.Event.group()
		if d.Event.Created < newest[sub] {
			shape.Disordered += d.Times
		}
		newest[sub] = max(newest[sub], d.Event.Created)
		shape.AtOnce += d.Times - 1
		shape.Duplicates += d.Times - 1
		if seen[d.Event.ID] {
			shape.Duplicates++
			continue
		}
		seen[d.Event.ID] = true
		shape.Events++
	}
	return shape
}
