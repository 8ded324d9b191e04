package mirror_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
)

// Verify imports an account of which nothing is stored, finds every way in which a row can differ, and repairs it.
func TestVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	account := stripesim.New(5, stripesim.Epoch)
	account.Billing = true
	account.Live(stripesim.Life{Subscriptions: 12, Bursts: true})
	w.api.Store(stripesim.NewAPI(account))
	var found []string
	config := &mirror.VerifyConfig{
		Types: billed, APIKey: "sk_test_1", APIBase: w.apiBase, Rate: 1e6, Projection: w.projection,
		Each: func(d mirror.Difference) {
			found = append(found, fmt.Sprintf("%s %s %v %v", d.Type, d.Field, d.Local, d.Stripe))
		},
	}
	verify := func(fix bool) mirror.VerifyResult {
		t.Helper()
		found, config.Fix = nil, nil
		if fix {
			config.Fix = w.host.Receiver
		}
		sum, err := mirror.Verify(t.Context(), w.host.Pool, config)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	imported := verify(true)
	if imported.Checked < 30 || imported.Fixed != imported.Checked || imported.Drifted != imported.Checked {
		t.Errorf("the import: %+v", imported)
	}
	// What has been deleted before is not at Stripe.
	findings, err := judge.Objects(t.Context(), w.host.Pool, account, billed...)
	findings = slices.DeleteFunc(findings, func(f judge.Finding) bool { return f.Want == "a row" && f.Got == nil })
	if err != nil || len(findings) > 0 {
		t.Errorf("after the import: %v, %v", findings, err)
	}
	if sum := verify(false); sum.Drifted != 0 || sum.Checked != imported.Checked {
		t.Errorf("after the import: %+v, %v", sum, found)
	}

	one := pgtest.Scan[string](t, w.host.Pool, `SELECT id FROM stripe_objects WHERE object_type = 'invoice' AND NOT deleted ORDER BY id LIMIT 1`)
	for name, c := range map[string]struct{ sql, difference string }{
		"another member":    {`UPDATE stripe_objects SET object = object || '{"total": 1}', digest = NULL WHERE id = $1`, "invoice total 1 "},
		"a missing row":     {`DELETE FROM stripe_objects WHERE id = $1`, "invoice id <nil> in_"},
		"a column":          {`UPDATE stripe_objects SET status = 'nonsense' WHERE id = $1`, "invoice status nonsense "},
		"deleted here":      {`UPDATE stripe_objects SET deleted = TRUE, digest = NULL WHERE id = $1`, "invoice deleted true false"},
		"a part of a list":  {`UPDATE stripe_objects SET lists_complete = FALSE, digest = NULL WHERE id = $1`, "invoice lists_complete false true"},
		"an unknown object": {`INSERT INTO stripe_objects (livemode, object_type, id, object, stripe_created_at) SELECT livemode, object_type, 'in_unknown', object, stripe_created_at FROM stripe_objects WHERE id = $1`, "invoice id in_unknown <nil>"},
	} {
		pgtest.Exec(t, w.host.Pool, c.sql, one)
		if sum := verify(true); sum.Drifted != 1 || !strings.HasPrefix(strings.Join(found, ", "), c.difference) {
			t.Errorf("%s: %+v, %v", name, sum, found)
		}
		pgtest.Exec(t, w.host.Pool, `DELETE FROM stripe_objects WHERE id = 'in_unknown'`)
		if sum := verify(false); sum.Drifted != 0 {
			t.Errorf("%s: after the repair: %+v, %v", name, sum, found)
		}
	}

	if _, err := mirror.Verify(t.Context(), w.host.Pool, &mirror.VerifyConfig{Types: []string{"mystery"}, APIKey: "sk_test_1"}); err == nil || !strings.Contains(err.Error(), `"mystery"`) {
		t.Errorf("an unknown type: %v", err)
	}
}

// Rows of events in either API version match Stripe's objects.
func TestVerifyOfBothVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	account := stripesim.New(6, stripesim.Epoch)
	account.Billing = true
	account.Live(stripesim.Life{Subscriptions: 8, Bursts: true})
	w.api.Store(stripesim.NewAPI(account))
	if err := w.deliver(stripesim.Default.Plan(1, account.Events)); err != nil {
		t.Fatal(err)
	}
	if n := pgtest.Scan[int](t, w.host.Pool, `SELECT count(DISTINCT api_version)::int FROM stripe_objects`); n != 2 {
		t.Errorf("the rows have %d API versions", n)
	}
	var found []string
	sum, err := mirror.Verify(t.Context(), w.host.Pool, &mirror.VerifyConfig{Types: billed, APIKey: "sk_test_1", APIBase: w.apiBase, Rate: 1e6,
		Each: func(d mirror.Difference) { found = append(found, fmt.Sprint(d)) }})
	if err != nil || sum.Drifted != 0 || sum.Checked < 30 {
		t.Errorf("%+v, %v, %v", sum, err, found)
	}
}
