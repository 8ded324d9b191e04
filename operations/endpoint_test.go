package operations_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/stripesim"
	"github.com/pook/stripeonce/operations"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ types, want string }{
		{"invoice.paid", "invoice.paid"},
		{"x.y invoice.paid invoice.paid", "invoice.paid x.y"},
		{"invoice.paid *", "*"},
		{"billing.alert.*", "billing.alert.triggered"},
		{"customer.subscription.*", "customer.subscription.created customer.subscription.deleted customer.subscription.paused " +
			"customer.subscription.pending_update_applied customer.subscription.pending_update_expired customer.subscription.resumed " +
			"customer.subscription.trial_will_end customer.subscription.updated"},
	} {
		if got := strings.Join(operations.Expand(strings.Fields(c.types)), " "); got != c.want {
			t.Errorf("%s becomes %s, want %s", c.types, got, c.want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	ctx, types := t.Context(), []string{"invoice.paid", "billing.alert.*"}
	const url = "https://example.com/webhooks/stripe"
	if _, err := b.CreateEndpoint(ctx, types, url, true); err != nil || len(b.api.Endpoints()) != 0 {
		t.Errorf("a dry run leaves %v, %v", b.api.Endpoints(), err)
	}
	created, err := b.CreateEndpoint(ctx, types, url, false)
	if err != nil || !strings.HasPrefix(created.Secret, "whsec_") || !created.Complete() || len(created.Unhandled) != 0 {
		t.Fatalf("created is %+v, %v", created, err)
	}
	if _, err := b.CreateEndpoint(ctx, types, url, false); !errors.Is(err, operations.ErrExists) {
		t.Errorf("a second endpoint for the URL: %v", err)
	}
	if _, err := b.CreateEndpoint(ctx, types, "example.com", false); !errors.Is(err, operations.ErrRefused) {
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
