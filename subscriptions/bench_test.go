package subscriptions

import (
	"testing"

	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

func BenchmarkDecode(b *testing.B) {
	account := stripesim.New(1, stripesim.Epoch)
	account.Subscribe(stripesim.VersionBasil)
	ev, err := webhooks.ParseEvent(account.Events[0].Body)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(ev); err != nil {
			b.Fatal(err)
		}
	}
}
