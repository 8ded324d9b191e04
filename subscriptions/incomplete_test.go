package subscriptions_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// itemsSQL selects the stored items and whether they are complete.
const itemsSQL = `SELECT (SELECT coalesce(string_agg(id || '=' || coalesce(quantity::text, ''), ' ' ORDER BY id), '') FROM subscription_items)
	|| CASE WHEN items_complete THEN '' ELSE ' and more' END FROM subscriptions`

// warnings is a log that counts the warnings of truncated items.
type warnings struct{ bytes.Buffer }

func (w *warnings) count() uint64 {
	return uint64(strings.Count(w.String(), "lists are longer than those in"))
}

// Items that a truncated list lacks are kept until a complete list lacks them.
func TestTruncatedItems(t *testing.T) {
	t.Parallel()
	for name, withHook := range map[string]bool{"by the digest": false, "by the stored row": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, last := &warnings{}, ""
			config := &subscriptions.Config{Logger: slog.New(slog.NewTextHandler(log, nil))}
			if withHook {
				config.OnChange = func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
					if before := itemsOf(c.Before); before != last {
						t.Errorf("%s: a change begins with %s, where the last one ended with %s", c.Event.ID, before, last)
					}
					last = itemsOf(c.After)
					return nil
				}
			}
			h := webhooks.NewHandlers()
			projection := subscriptions.Register(h, config)
			testTruncatedItems(t, hooktest.New(t, h, nil), projection, log, func() string { return last })
			if !strings.Contains(log.String(), "event_id=evt_1 object_type=subscription object_id=sub_1") {
				t.Errorf("the log does not name the event: %s", log)
			}
		})
	}
}

func testTruncatedItems(t *testing.T, host *hooktest.Host, projection *subscriptions.Projection, log *warnings, lastChange func() string) {
	for i, c := range []struct {
		created  int64
		list     string
		outcome  webhooks.Outcome
		warnings uint64 // so far
		want     string
	}{
		{10, `"has_more":false,"data":[{"id":"si_a","quantity":1},{"id":"si_b","quantity":1},{"id":"si_c"}]`, "processed", 0, "si_a=1 si_b=1 si_c="},
		{20, `"has_more":true,"data":[{"id":"si_d"},{"id":"si_b","quantity":2}]`, "processed", 1, "si_a=1 si_b=2 si_c= si_d= and more"},
		{30, `"has_more":true,"data":[{"id":"si_b","quantity":2},{"id":"si_d"}]`, "stale", 2, "si_a=1 si_b=2 si_c= si_d= and more"},
		{25, `"has_more":true,"data":[{"id":"si_z"}]`, "stale", 2, "si_a=1 si_b=2 si_c= si_d= and more"}, // is not stored
		{40, `"has_more":true,"data":[{"id":"si_d"},{"id":"si_b","quantity":3}]`, "processed", 3, "si_a=1 si_b=3 si_c= si_d= and more"},
		{50, `"has_more":false,"data":[{"id":"si_d"},{"id":"si_b","quantity":3}]`, "processed", 3, "si_b=3 si_d="},
		{60, `"has_more":true,"data":[{"id":"si_d"},{"id":"si_b","quantity":3}]`, "processed", 4, "si_b=3 si_d= and more"},
		{70, `"has_more":null,"data":[{"id":"si_d"},{"id":"si_b","quantity":3}]`, "processed", 4, "si_b=3 si_d="},
		{80, `"has_more":true,"data":[]`, "processed", 5, "si_b=3 si_d= and more"},
		{90, `"data":[{"id":"si_d"}]`, "processed", 5, "si_d="},
		{100, `"has_more":"yes"`, "processed", 6, "si_d= and more"},
	} {
		host.Expect(t, hooktest.Event(fmt.Sprintf("evt_%d", i), updatedType, c.created, object("active", `,"items":{`+c.list+`}`)), 200, c.outcome)
		if diff := cmp.Diff(c.want, pgtest.Scan[string](t, host.Pool, itemsSQL)); diff != "" {
			t.Errorf("step %d, the items (-want +got):\n%s", i, diff)
		}
		if read := itemsOf(get(t, host, "sub_1")); lastChange() != "" && lastChange() != read {
			t.Errorf("step %d: stored are %s, and OnChange received %s", i, read, lastChange())
		}
		if n := projection.Stats().Incomplete; n != c.warnings || log.count() != c.warnings {
			t.Errorf("step %d: %d are counted and %d in the log, want %d", i, n, log.count(), c.warnings)
		}
	}
}

func itemsOf(s *subscriptions.Subscription) string {
	if s == nil {
		return ""
	}
	text := fmt.Sprint(s.ItemsComplete)
	for _, item := range s.Items {
		text += fmt.Sprintf(" %s", item.ID)
	}
	return text
}

// Receivers with and without OnChange share a table. Each continues from the row that the other stored.
func TestTruncatedItemsOfTwoReceivers(t *testing.T) {
	t.Parallel()
	host := newHost(t, &subscriptions.Config{OnChange: func(context.Context, pgx.Tx, subscriptions.Change) error { return nil }, Logger: hooktest.NoLog()})
	h := webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog()})
	bare := hooktest.On(t, host.Pool, h, nil)
	for i, c := range []struct {
		to      *hooktest.Host
		list    string
		outcome webhooks.Outcome
		want    string // in the order of their positions
	}{
		{bare, `"data":[{"id":"si_a"},{"id":"si_b"},{"id":"si_c"}]`, "processed", "si_a si_b si_c"},
		{host, `"has_more":true,"data":[{"id":"si_c"},{"id":"si_d"}]`, "processed", "si_c si_d si_a si_b"},
		{bare, `"has_more":true,"data":[{"id":"si_d"},{"id":"si_c"}]`, "stale", "si_c si_d si_a si_b"},
		{bare, `"data":[{"id":"si_a"},{"id":"si_b"},{"id":"si_c"}]`, "processed", "si_a si_b si_c"},
		{bare, `"has_more":true,"data":[{"id":"si_c","quantity":1},{"id":"si_b"}]`, "processed", "si_a si_c si_b"},
		{host, `"data":[{"id":"si_a"},{"id":"si_c","quantity":2},{"id":"si_b"}]`, "processed", "si_a si_c si_b"},
	} {
		c.to.Expect(t, hooktest.Event(fmt.Sprintf("evt_%d", i), updatedType, int64(i), object("active", `,"items":{`+c.list+`}`)), 200, c.outcome)
		ids := pgtest.Scan[string](t, host.Pool, `SELECT string_agg(id, ' ' ORDER BY position, id) FROM subscription_items`)
		if diff := cmp.Diff(c.want, ids); diff != "" {
			t.Errorf("step %d, the items (-want +got):\n%s", i, diff)
		}
	}
}

// A failed event stores nothing, so there is no warning of its items.
func TestTruncatedItemsOfAFailure(t *testing.T) {
	t.Parallel()
	var failure error
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog(), OnChange: func(context.Context, pgx.Tx, subscriptions.Change) error {
		return failure
	}})
	host := hooktest.New(t, h, nil)
	body := hooktest.Event("evt_1", updatedType, 1, object("active", `,"items":{"has_more":true,"data":[{"id":"si_a"}]}`))
	failure = errOnPurpose
	host.Expect(t, body, 500, "")
	if n := projection.Stats().Incomplete; n != 0 {
		t.Errorf("%d are counted after a failure", n)
	}
	failure = nil
	host.Expect(t, body, 200, webhooks.OutcomeProcessed)
	if n := projection.Stats().Incomplete; n != 1 {
		t.Errorf("%d are counted, want 1", n)
	}
}

// newLarge returns a subscription with more items than Stripe lists within it.
func newLarge(account *stripesim.Account) *stripesim.Subscription {
	sub := account.Subscribe(stripesim.VersionBasil)
	sub.Activate()
	for range 24 {
		sub.AddItem()
	}
	return sub
}

// Verify never reports a row with truncated items as equal. --fix does not change that where the key may not read the rest.
func TestVerifyTruncatedItems(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 2, false)
	v.api.Refuse = "/v1/subscription_items"
	large := newLarge(v.account)
	for _, ev := range v.account.Events {
		v.Send(t, ev.Body)
	}
	expect := func(what, want string, sum subscriptions.VerifyResult, changes int) {
		t.Helper()
		v.changes = nil
		got, found := v.verify(t)
		if got != sum || found != want || len(v.changes) != changes {
			t.Errorf("%s: the result is %+v, with %d changes, and the differences are\n%s", what, got, len(v.changes), found)
		}
	}
	part := large.ID() + " items_complete false true"
	one := subscriptions.VerifyResult{Checked: 3, Drifted: 1}
	expect("a part is stored", part, one, 0)
	pgtest.Exec(t, v.Pool, `INSERT INTO subscription_items (subscription_id, id, position, metadata) VALUES ($1, 'si_beyond', 30, '{}')`, large.ID())
	expect("an item beyond the list is stored", part, one, 0)
	projection := v.config.Projection
	before := projection.Stats().Incomplete
	v.config.Fix = v.Receiver
	expect("Stripe's response has no more than the row", part, one, 0)
	pgtest.Exec(t, v.Pool, `UPDATE subscriptions SET items_complete = true WHERE id = $1`, large.ID())
	expect("the row claims to be complete", large.ID()+" items_complete true false", one, 1)
	expect("it has been fixed as far as possible", part, one, 0)
	if n := v.Count(t, "subscription_items"); n != 2+1+20+1 { // one of the two others has been upgraded
		t.Errorf("%d items are stored", n)
	}
	pgtest.Exec(t, v.Pool, `DELETE FROM subscriptions WHERE id = $1`, large.ID())
	expect("it is missing", large.ID()+" id <nil> "+large.ID(), one, 1)
	expect("it has been imported as far as possible", part, one, 0)
	if stored := projection.Stats().Incomplete - before; stored != 2 {
		t.Errorf("%d responses were stored with truncated items, want 2", stored)
	}
}

// The response of a refetch may be truncated, too, where the key may not read the rest.
func TestTruncatedResponse(t *testing.T) {
	t.Parallel()
	account := newAccount()
	large := newLarge(account)
	w := newWorld(t, account, true, subscriptions.RefetchAlways)
	w.api.Refuse = "/v1/subscription_items"
	if err := w.apply(account.Events[0]); err != nil {
		t.Fatal(err)
	}
	if sub := get(t, w.host, large.ID()); sub.ItemsComplete || len(sub.Items) != 20 || w.projection.Stats().Incomplete != 1 {
		t.Errorf("%d items are stored, all of them: %v, %+v", len(sub.Items), sub.ItemsComplete, w.projection.Stats())
	}
}
