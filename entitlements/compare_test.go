package entitlements_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/entitlements"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// compared is a receiver of an account's entitlements, with the API.
type compared struct {
	host       *hooktest.Host
	projection *mirror.Projection
	account    *stripesim.Account
	apiBase    string
	changes    []string
}

func newCompared(t *testing.T) *compared {
	t.Helper()
	c := &compared{account: stripesim.New(1, stripesim.Epoch)}
	c.account.Billing = true
	server := httptest.NewServer(stripesim.NewAPI(c.account))
	t.Cleanup(server.Close)
	h := webhooks.NewHandlers()
	c.projection = entitlements.Register(h, &entitlements.Config{OnChange: func(_ context.Context, _ pgx.Tx, change entitlements.Change) error {
		c.changes = append(c.changes, fmt.Sprintf("%s granted %v revoked %v imported %v", change.CustomerID, keys(change.Granted()), keys(change.Revoked()), change.Imported))
		return nil
	}})
	c.apiBase = server.URL
	c.host = hooktest.New(t, h, func(config *webhooks.Config) { config.APIKey, config.APIBase = "sk_test_1", server.URL })
	return c
}

// verify compares, and returns the counts and the fields that differ.
func (c *compared) verify(t *testing.T, fix bool) (mirror.Verified, []string) {
	t.Helper()
	var fields []string
	config := &mirror.VerifyConfig{
		Types: mirror.Entitlements, APIKey: "sk_test_1", APIBase: c.apiBase, Projection: c.projection, Rate: 1e6,
		Each: func(d mirror.Difference) { fields = append(fields, d.ID+" "+d.Field) },
	}
	if fix {
		config.Fix = c.host.Receiver
	}
	sum, err := mirror.Verify(t.Context(), c.host.Pool, config)
	if err != nil {
		t.Fatal(err)
	}
	return sum, fields
}

// A comparison finds what no event says: changes of the catalog, and customers of the time before the receiver. Those without
// entitlements get no row.
func TestComparison(t *testing.T) {
	t.Parallel()
	c := newCompared(t)
	before := c.account.Subscribe(stripesim.VersionBasil)
	before.Activate()
	c.account.Subscribe(stripesim.VersionBasil) // incomplete
	customer := before.CustomerObject()
	if sum, fields := c.verify(t, false); sum.Drifted != 1 || !slices.Equal(fields, []string{customer.ID() + " id"}) {
		t.Errorf("of a customer without a row: %+v, %v", sum, fields)
	}
	if sum, _ := c.verify(t, true); sum.Fixed != 1 || c.host.Count(t, "stripe_objects") != 1 {
		t.Errorf("the import: %+v", sum)
	}
	sso := c.account.AddFeature("sso", "Single sign-on")
	c.account.AttachFeature(c.account.Products[0], sso)
	if sum, fields := c.verify(t, true); sum.Drifted != 1 || sum.Fixed != 1 || !slices.Equal(fields, []string{customer.ID() + " entitlements"}) {
		t.Errorf("after a feature was attached: %+v, %v", sum, fields)
	}
	if got := has(t, c.host, customer.ID(), "sso"); got != "true" {
		t.Errorf("has sso is %s", got)
	}
	c.account.DetachFeature(c.account.Products[0], sso)
	c.verify(t, true)
	if sum, fields := c.verify(t, true); sum.Drifted != 0 {
		t.Errorf("of equal sides: %+v, %v", sum, fields)
	}
	id := customer.ID()
	want := []string{
		id + " granted " + fmt.Sprint(lookupKeys(customer)) + " revoked [] imported true",
		id + " granted [sso] revoked [] imported true", id + " granted [] revoked [sso] imported true",
	}
	if !slices.Equal(c.changes, want) {
		t.Errorf("the changes are %q, want %q", c.changes, want)
	}
}

func lookupKeys(c *stripesim.Customer) (keys []string) {
	for _, e := range c.Entitlements() {
		keys = append(keys, e.LookupKey)
	}
	return keys
}

// What an event has, and what Stripe's list has, are no differences. Nor is a deleted customer whose entitlements ended.
func TestNoDrift(t *testing.T) {
	t.Parallel()
	c := newCompared(t)
	sub := c.account.Subscribe(stripesim.VersionBasil)
	sub.Activate()
	gone := c.account.Subscribe(stripesim.VersionBeforeBasil)
	gone.Activate()
	gone.Delete()
	gone.CustomerObject().Delete()
	for _, ev := range c.account.Events {
		if err := apply(c.host, stripesim.Delivery{Event: ev, Times: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, fields := c.verify(t, false); sum.Drifted != 0 || sum.Checked != 2 {
		t.Errorf("%+v, %v", sum, fields)
	}
}
