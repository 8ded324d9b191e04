package operations_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
)

func TestEndpoints(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	ctx, types := t.Context(), []string{"invoice.paid", "billing.alert.*"}
	const url = "https://example.com/webhooks/stripe"
	if _, err := b.CreateEndpoint(ctx, types, url, operations.EndpointOptions{DryRun: true}); err != nil || len(b.api.Endpoints()) != 0 {
		t.Errorf("a dry run leaves %v, %v", b.api.Endpoints(), err)
	}
	created, err := b.CreateEndpoint(ctx, types, url, operations.EndpointOptions{})
	if err != nil || !strings.HasPrefix(created.Secret, "whsec_") || !created.Complete() || len(created.Unhandled) != 0 {
		t.Fatalf("created is %+v, %v", created, err)
	}
	if _, err := b.CreateEndpoint(ctx, types, url, operations.EndpointOptions{}); !errors.Is(err, operations.ErrExists) {
		t.Errorf("a second endpoint for the URL: %v", err)
	}
	if _, err := b.CreateEndpoint(ctx, types, "example.com", operations.EndpointOptions{}); !errors.Is(err, operations.ErrRefused) {
		t.Errorf("an endpoint without a URL: %v", err)
	}
	b.api.AddEndpoint(stripesim.Endpoint{URL: "https://other.example.com/", EnabledEvents: []string{"invoice.paid", "charge.refunded"}, Disabled: true})
	all, err := b.Endpoints(ctx, types, "")
	if err != nil || len(all) != 2 {
		t.Fatalf("the endpoints are %+v, %v", all, err)
	}
	other := all[0]
	if other.Complete() || !slices.Equal(other.Missing, []string{"billing.alert.triggered"}) || !slices.Equal(other.Unhandled, []string{"charge.refunded"}) || other.Secret != "" {
		t.Errorf("the other one is %+v", other)
	}
	dry, err := b.UpdateEndpoint(ctx, types, &other, true, true)
	if err != nil || !dry.Complete() || len(dry.Unhandled) != 0 || !b.api.Endpoints()[1].Disabled {
		t.Errorf("a dry run says %+v, %v, and leaves %+v", dry, err, b.api.Endpoints()[1])
	}
	updated, err := b.UpdateEndpoint(ctx, types, &other, false, false)
	if err != nil || !updated.Complete() || !slices.Equal(updated.Unhandled, []string{"charge.refunded"}) {
		t.Errorf("updated it is %+v, %v", updated, err)
	}
	if updated, err = b.UpdateEndpoint(ctx, types, updated, true, false); err != nil || len(updated.Unhandled) != 0 {
		t.Errorf("updated exactly it is %+v, %v", updated, err)
	}
	if mine, err := b.Endpoints(ctx, types, url); err != nil || len(mine) != 1 || mine[0].ID != created.ID {
		t.Errorf("those of the URL are %+v, %v", mine, err)
	}
}

// Event destinations are shown and provisioned as webhook endpoints are.
func TestDestinations(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	ctx := t.Context()
	const url, v2 = "https://example.com/webhooks/stripe", "v2.core.account[configuration.merchant].updated"
	types := []string{"invoice.paid", "billing.meter.*", v2}
	created, err := b.CreateEndpoint(ctx, types, url, operations.EndpointOptions{Thin: true, Connect: true})
	if err != nil || !strings.HasPrefix(created.Secret, "whsec_") || !created.Complete() || len(created.Unhandled) != 0 || created.Kind != operations.KindEventDestination || created.URL != url {
		t.Fatalf("created is %+v, %v", created, err)
	}
	at := b.api.Destinations()
	want := "v1.billing.meter.created v1.billing.meter.deactivated v1.billing.meter.error_report_triggered v1.billing.meter.no_meter_found v1.billing.meter.reactivated v1.billing.meter.updated v1.invoice.paid " + v2
	if len(at) != 1 || strings.Join(at[0].Types, " ") != want || strings.Join(at[0].EventsFrom, " ") != "@self @accounts" || at[0].Payload != "thin" {
		t.Errorf("Stripe has %+v, want the types %s", at, want)
	}
	if _, err := b.CreateEndpoint(ctx, types, url, operations.EndpointOptions{Thin: true}); !errors.Is(err, operations.ErrExists) {
		t.Errorf("a second destination for the URL: %v", err)
	}
	if _, err := b.CreateEndpoint(ctx, types, url, operations.EndpointOptions{APIVersion: "2025-03-31.basil"}); err != nil {
		t.Errorf("an endpoint for snapshot events beside it: %v", err)
	}
	if _, err := b.CreateEndpoint(ctx, types, url+"/2", operations.EndpointOptions{Thin: true, APIVersion: "2025-03-31.basil"}); !errors.Is(err, operations.ErrRefused) {
		t.Errorf("a version of thin events: %v", err)
	}
	b.api.AddDestination(stripesim.Destination{ID: "ed_bridge", Kind: "amazon_eventbridge", Payload: "thin", Types: []string{"v1.invoice.paid"}})
	b.api.AddDestination(stripesim.Destination{ID: "ed_old", URL: "https://old.example.com/", Payload: "thin", Status: "disabled", Types: []string{"v1.charge.refunded", "v1.invoice.paid", "v2.core.account.updated"}})
	all, err := b.Endpoints(ctx, types, "")
	if err != nil || len(all) != 4 {
		t.Fatalf("%d endpoints: %+v, %v", len(all), all, err)
	}
	if snapshot := all[0]; snapshot.Kind != operations.KindWebhookEndpoint || snapshot.APIVersion != "2025-03-31.basil" || !snapshot.Complete() {
		t.Errorf("the webhook endpoint is %+v", snapshot)
	}
	if bridge := all[2]; bridge.Type != "amazon_eventbridge" || !bridge.Complete() || bridge.URL != "" {
		t.Errorf("the bridge is %+v", bridge)
	}
	if _, err := b.UpdateEndpoint(ctx, types, &all[2], false, false); !errors.Is(err, operations.ErrRefused) {
		t.Errorf("an update of the bridge: %v", err)
	}
	old := all[3]
	if old.Complete() || !slices.Equal(old.Unhandled, []string{"v1.charge.refunded", "v2.core.account.updated"}) || len(old.Missing) != 7 {
		t.Errorf("the old one is %+v", old)
	}
	updated, err := b.UpdateEndpoint(ctx, types, &old, false, false)
	if err != nil || !updated.Complete() || updated.Status != "enabled" || len(updated.Unhandled) != 2 || updated.URL != old.URL {
		t.Errorf("updated it is %+v, %v", updated, err)
	}
	if updated, err = b.UpdateEndpoint(ctx, types, updated, true, false); err != nil || len(updated.Unhandled) != 0 {
		t.Errorf("updated exactly it is %+v, %v", updated, err)
	}
}

// An update never takes a type away that a handler's pattern matches, whether it is known or not.
func TestUpdateNeverNarrows(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	for _, c := range []struct {
		payload                operations.EventPayload
		handled, enabled, want string
	}{
		{"snapshot", "invoice.paid invoice.*", "invoice.from_the_future invoice.paid charge.refunded", "invoice.from_the_future"},
		{"snapshot", "invoice.*", "*", "*"},
		{"snapshot", "*", "charge.from_the_future", "* charge.from_the_future"},
		{"snapshot", "invoice.paid", "*", ""}, // no pattern: the exact list is enough
		{"thin", "invoice.*", "v1.invoice.from_the_future v1.charge.refunded", "v1.invoice.from_the_future"},
		{"thin", "customer.subscription.*", "v2.core.health.event_generation_failure.resolved v2.core.other", "v2.core.health.event_generation_failure.resolved"},
		{"thin", "v2.core.new.thing", "v2.core.new.thing v2.core.other", "v2.core.new.thing"},
	} {
		e := &operations.Endpoint{ID: "x", Type: "webhook_endpoint", Payload: c.payload, EnabledEvents: strings.Fields(c.enabled)}
		updated, err := b.UpdateEndpoint(t.Context(), strings.Fields(c.handled), e, true, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range strings.Fields(c.want) {
			if !slices.Contains(updated.EnabledEvents, want) {
				t.Errorf("%s of %s lacks %s: %v", c.enabled, c.handled, want, updated.EnabledEvents)
			}
		}
		if slices.Contains(updated.EnabledEvents, "charge.refunded") || slices.Contains(updated.EnabledEvents, "v2.core.other") || c.want == "" && slices.Contains(updated.EnabledEvents, "*") {
			t.Errorf("%s of %s becomes %v", c.enabled, c.handled, updated.EnabledEvents)
		}
	}
}
