package webhooks_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

func benchEvents(n int) []*stripesim.Event {
	account := stripesim.New(1, stripesim.Epoch)
	for range n {
		account.Subscribe(stripesim.VersionBasil)
	}
	return account.Events
}

func BenchmarkParseEvent(b *testing.B) {
	body := benchEvents(1)[0].Body
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := webhooks.ParseEvent(body); err != nil {
			b.Fatal(err)
		}
	}
}

// A new event and a duplicate through the whole transaction, without HTTP.
func BenchmarkApply(b *testing.B) {
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error { return nil })
	apply := func(b *testing.B, host *hooktest.Host, ev *webhooks.Event) {
		b.Helper()
		if _, err := host.Receiver.Apply(context.Background(), ev); err != nil {
			b.Fatal(err)
		}
	}
	first, err := webhooks.ParseEvent(benchEvents(1)[0].Body)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("new", func(b *testing.B) {
		host := hooktest.New(b, h, nil)
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			ev := *first
			ev.ID = "evt_" + time.Duration(n).String()
			apply(b, host, &ev)
		}
	})
	b.Run("duplicate", func(b *testing.B) {
		host := hooktest.New(b, h, nil)
		apply(b, host, first)
		b.ReportAllocs()
		for b.Loop() {
			apply(b, host, first)
		}
	})
}
