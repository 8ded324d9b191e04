package stripesim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Storm says how a simulated Stripe delivers: in what disorder and with how many copies. The zero value
// is a Stripe that delivers everything once and in order, which the real one does not promise.
type Storm struct {
	// Disorder is the share of deliveries that come early or late, from 0 to 1.
	Disorder float64
	// Window is by how many of its subscription's events a delivery may be early or late.
	Window int
	// Copies is the share of events that are delivered more than once, from 0 to 1, and MaxCopies how
	// often at most.
	Copies    float64
	MaxCopies int
	// Concurrent is the share of copies that come at the same instant as the first, from 0 to 1.
	Concurrent float64
}

// The storms that the demo offers.
var storms = map[string]Storm{
	"mild":    {Disorder: 0.1, Window: 2, Copies: 0.15, MaxCopies: 2, Concurrent: 0.3},
	"default": {Disorder: 0.6, Window: 6, Copies: 0.4, MaxCopies: 4, Concurrent: 0.5},
	"wild":    {Disorder: 0.95, Window: 30, Copies: 0.8, MaxCopies: 8, Concurrent: 0.5},
}

// NamedStorm returns the storm called mild, default or wild.
func NamedStorm(name string) (Storm, error) {
	storm, ok := storms[name]
	if !ok {
		return Storm{}, fmt.Errorf("storm %q: use mild, default or wild", name)
	}
	return storm, nil
}

// Delivery is one delivery of an event to an endpoint, or several at the same instant.
type Delivery struct {
	Event *Event
	Times int // at the same instant
}

// Plan puts events into the order in which they are delivered, with their copies. The same seed and
// events give the same plan.
func (s Storm) Plan(seed uint64, events []*Event) []Delivery {
	random := rand.New(rand.NewPCG(seed, 0x5702a))
	type placed struct {
		place float64
		Delivery
	}
	var queue []placed
	places := map[string][]int{} // of each subscription's events
	for i, ev := range events {
		places[ev.SubscriptionID] = append(places[ev.SubscriptionID], i)
	}
	nth := map[string]int{}
	for _, ev := range events {
		own, n := places[ev.SubscriptionID], nth[ev.SubscriptionID]
		nth[ev.SubscriptionID]++
		first := placed{float64(own[n]), Delivery{ev, 1}}
		if random.Float64() < s.Disorder {
			first.place = at(own, n+random.IntN(2*s.Window+1)-s.Window) + random.Float64() - 0.5
		}
		for range s.copies(random) {
			if random.Float64() < s.Concurrent {
				first.Times++
				continue
			}
			queue = append(queue, placed{at(own, n+random.IntN(s.Window+1)) + random.Float64(), Delivery{ev, 1}})
		}
		queue = append(queue, first)
	}
	slices.SortStableFunc(queue, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	plan := make([]Delivery, len(queue))
	for i, p := range queue {
		plan[i] = p.Delivery
	}
	return plan
}

// at is the nth of places, or the first or last.
func at(places []int, n int) float64 { return float64(places[min(max(n, 0), len(places)-1)]) }

func (s Storm) copies(random *rand.Rand) int {
	if s.MaxCopies < 2 || random.Float64() >= s.Copies {
		return 0
	}
	return 1 + random.IntN(s.MaxCopies-1)
}

// Shape counts what a plan asks of a receiver.
type Shape struct {
	Events     int
	Deliveries int
	Duplicates int // deliveries of an event that was delivered before
	AtOnce     int // of these, at the same instant as another copy
	Disordered int // deliveries that come after a later event of the same subscription
}

// Add is the shape of both together.
func (s Shape) Add(other Shape) Shape {
	return Shape{
		s.Events + other.Events, s.Deliveries + other.Deliveries, s.Duplicates + other.Duplicates,
		s.AtOnce + other.AtOnce, s.Disordered + other.Disordered,
	}
}

// Measure counts a plan.
func Measure(plan []Delivery) Shape {
	var shape Shape
	seen := map[string]bool{}
	newest := map[string]int64{}
	for _, d := range plan {
		shape.Deliveries += d.Times
		sub := d.Event.SubscriptionID
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
