package entitlements_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/entitlements"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
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
func (c *compared) verify(t *testing.T, fix bool) (mirror.VerifyResult, []string) {
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

// VerifyEvery finds in the background what no event says, in one process at a time, and records what it found.
func TestComparisonInTheBackground(t *testing.T) {
	t.Parallel()
	c := newCompared(t)
	sub := c.account.Subscribe(stripesim.VersionBasil)
	sub.Activate()
	customer := sub.CustomerObject().ID()
	jobs, err := mirror.Jobs(c.host.Pool, &mirror.VerifyConfig{
		Types: mirror.Entitlements, APIKey: "sk_test_1", APIBase: c.apiBase, Rate: 1e6, Fix: c.host.Receiver, Projection: c.projection,
	})
	if err != nil {
		t.Fatal(err)
	}
	operator := operations.New(c.host.Pool, &operations.Config{Logger: hooktest.NoLog()})
	holder, err := pgtest.Connect(t, c.host.DatabaseURL).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.Background()) }()
	if mine, err := db.New().ServerWorkLockTry(t.Context(), holder, "verify"); err != nil || !mine {
		t.Fatal(mine, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- operator.VerifyEvery(ctx, 10*time.Millisecond, jobs...) }()
	pgtest.AwaitEqual(t, "a run was skipped, since another process compares", true, func() bool { return operator.VerifyStats().Skipped > 0 })
	if stats := operator.VerifyStats(); stats.Runs != 0 || c.host.Count(t, "stripe_entitlements") != 0 {
		t.Errorf("it compared although another process did: %+v", stats)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgtest.AwaitEqual(t, "the customer's entitlements", len(sub.CustomerObject().Entitlements()), func() int { return c.host.Count(t, "stripe_entitlements") })
	pgtest.AwaitEqual(t, "a run without a difference", true, func() bool { return operator.VerifyStats().Runs > 1 })
	stop()
	if err := pgtest.Receive(t, "VerifyEvery returns", ended); err != nil {
		t.Error(err)
	}
	if stats := operator.VerifyStats(); stats.Drifted != 1 || stats.Fixed != 1 || stats.Failed != 0 || stats.LastCompleted.IsZero() {
		t.Errorf("the counts are %+v", stats)
	}
	runs, err := operator.Runs(t.Context(), operations.RunFilter{})
	if err != nil || len(runs) != 1 || runs[0].Kind != operations.RunVerify || !strings.Contains(string(runs[0].Counts), `"drifted": 1`) {
		t.Errorf("the runs are %+v, %v", runs, err)
	}
	if got := has(t, c.host, customer, sub.CustomerObject().Entitlements()[0].LookupKey); got != "true" {
		t.Errorf("has is %s", got)
	}
	if err := operator.VerifyEvery(t.Context(), 0, jobs...); !errors.Is(err, operations.ErrRefused) {
		t.Errorf("an interval of 0: %v", err)
	}
}
