package mirror_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// FuzzMirrored puts any value into any place of a billing event. It checks that the event is stored or fails by itself, as no
// infrastructure failure, and that the views of the object can be read then: one object that a view cannot cast would hide all
// others.
func FuzzMirrored(f *testing.F) {
	events := eachTypeOf(f)
	for i := range events {
		for j, value := range []string{`null`, `[{}]`, `{"id":7}`, `1e999`, `-9223372036854775809`, `253402300800`, `"\u0000"`, `text`} {
			f.Add(uint16(i), uint16(i+7*j), value)
		}
	}
	h := webhooks.NewHandlers()
	mirror.Register(h, &mirror.Config{Types: slices.Collect(maps.Keys(judge.Views)), Logger: hooktest.NoLog()})
	host := hooktest.New(f, h, nil)
	serial := 0
	f.Fuzz(func(t *testing.T, event, place uint16, value string) {
		serial++
		body := decodedEvent(t, events[int(event)%len(events)])
		body["id"] = fmt.Sprintf("evt_%d", serial)
		putAt(body["data"], int(place), valueOf(value))
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := webhooks.ParseEvent(raw)
		if err != nil {
			t.Skip()
		}
		if _, err := host.Receiver.Apply(t.Context(), ev); err != nil && !errors.As(err, new(*webhooks.HandlerError)) {
			t.Errorf("%s: %v", raw, err)
		}
		for _, view := range viewsOf(pgtest.Scan[string](t, host.Pool, `SELECT coalesce(min(object_type), '') FROM stripe_objects`)) {
			if _, err := host.Pool.Exec(t.Context(), `SELECT to_jsonb(v) FROM `+view+` AS v`); err != nil {
				t.Errorf("%s of %s: %v", view, raw, err)
			}
		}
		pgtest.Exec(t, host.Pool, `DELETE FROM stripe_objects`)
	})
}

// viewsOf returns the views that show an object of a type.
func viewsOf(object string) (views []string) {
	if view := judge.Views[object]; view != "" {
		views = append(views, view)
	}
	if object == "invoice" {
		views = append(views, "stripe_invoice_lines")
	}
	return views
}

// eachTypeOf returns the newest event of each type that a simulated account sends.
func eachTypeOf(tb testing.TB) (events [][]byte) {
	tb.Helper()
	account := stripesim.New(3, stripesim.Epoch)
	account.Billing = true
	account.Play(stripesim.Scenarios(), len(stripesim.Scenarios()))
	account.Live(stripesim.Life{Subscriptions: 8, Bursts: true})
	newest := map[string][]byte{}
	for _, ev := range account.Events {
		newest[ev.Type] = ev.Body
	}
	for _, kind := range slices.Sorted(maps.Keys(newest)) {
		events = append(events, newest[kind])
	}
	return events
}

func decodedEvent(t *testing.T, raw []byte) (body map[string]any) {
	t.Helper()
	if err := json.Unmarshal(raw, &body); err != nil {
		t.Fatal(err)
	}
	return body
}

// valueOf returns text as the JSON that it is, or else as a string.
func valueOf(text string) any {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return text
}

// putAt replaces the value at a place in a tree by another one. Places are counted in the order of the members' names, and again
// from the first one after the last.
func putAt(tree any, place int, value any) {
	var puts []func()
	var walk func(node any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(node)) {
				puts = append(puts, func() { node[name] = value })
				walk(node[name])
			}
		case []any:
			for i := range node {
				puts = append(puts, func() { node[i] = value })
				walk(node[i])
			}
		}
	}
	walk(tree)
	if len(puts) > 0 {
		puts[place%len(puts)]()
	}
}
