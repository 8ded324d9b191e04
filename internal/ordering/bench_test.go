package ordering

import (
	"testing"

	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// BenchmarkLast orders a burst of four changes.
func BenchmarkLast(b *testing.B) {
	events, _ := burst(b, 3, []int{10, 30, 45, 55}, true)
	set := grow(events)
	b.ReportAllocs()
	for b.Loop() {
		subscription.Last(set)
	}
}

// BenchmarkOrder orders eight events of one second by the chain of their previous attributes.
func BenchmarkOrder(b *testing.B) {
	account := stripesim.New(1, stripesim.Epoch)
	sub := account.Subscribe(stripesim.VersionBasil)
	for n := range int64(8) {
		sub.SetQuantity(n + 2)
	}
	var set []Occurrence
	for _, event := range account.Events {
		ev, err := webhooks.ParseEvent(event.Body)
		if err != nil {
			b.Fatal(err)
		}
		if ev.Type == "customer.subscription.updated" {
			set = With(set, Occurrence{ID: ev.ID, Type: ev.Type, Object: ev.Object, Previous: ev.Previous})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, settled := subscription.Last(set); !settled {
			b.Fatal("the chain does not settle the order")
		}
	}
}
