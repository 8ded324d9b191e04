package subscriptions_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

func object(status string, more string) string {
	return fmt.Sprintf(`{"id":"sub_1","object":"subscription","customer":"cus_1","status":%q%s}`, status, more)
}

// step is a delivery and its expected outcome.
type step struct {
	eventType string
	created   int64
	status    string
	want      webhooks.Outcome
}

func TestOrder(t *testing.T) {
	t.Parallel()
	const (
		created = "customer.subscription.created"
		updated = "customer.subscription.updated"
		deleted = "customer.subscription.deleted"
	)
	for name, c := range map[string]struct {
		steps []step
		want  string
	}{
		"in order":                             {[]step{{created, 1, "incomplete", "processed"}, {updated, 2, "active", "processed"}, {deleted, 3, "canceled", "processed"}}, "canceled"},
		"created comes late":                   {[]step{{updated, 2, "active", "processed"}, {created, 1, "incomplete", "stale"}}, "active"},
		"created comes late within one second": {[]step{{updated, 1, "active", "processed"}, {created, 1, "incomplete", "stale"}}, "active"},
		"a late update does not revive":        {[]step{{deleted, 3, "canceled", "processed"}, {updated, 2, "active", "stale"}}, "canceled"},
		"not even with a later clock":          {[]step{{deleted, 3, "canceled", "processed"}, {updated, 4, "active", "stale"}}, "canceled"},
		"an expired one stays so":              {[]step{{updated, 3, "incomplete_expired", "processed"}, {updated, 4, "active", "stale"}}, "incomplete_expired"},
		"the end is later than any":            {[]step{{updated, 5, "active", "processed"}, {deleted, 3, "canceled", "processed"}}, "canceled"},
		"updates in disorder":                  {[]step{{updated, 3, "past_due", "processed"}, {updated, 2, "active", "stale"}, {updated, 4, "unpaid", "processed"}}, "unpaid"},
		"the same state, then a late one":      {[]step{{updated, 2, "active", "processed"}, {updated, 4, "active", "stale"}, {updated, 3, "past_due", "stale"}}, "active"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := newHost(t, nil)
			for i, s := range c.steps {
				host.Expect(t, hooktest.Event(fmt.Sprintf("evt_%d", i), s.eventType, s.created, object(s.status, "")), 200, s.want)
			}
			if got := get(t, host, "sub_1").Status; string(got) != c.want {
				t.Errorf("the status is %s, want %s", got, c.want)
			}
		})
	}
}

// An update of a canceled subscription is applied.
func TestMetadataAfterTheEnd(t *testing.T) {
	t.Parallel()
	host := newHost(t, nil)
	host.Expect(t, hooktest.Event("evt_1", "customer.subscription.deleted", 1, object("canceled", "")), 200, webhooks.OutcomeProcessed)
	host.Expect(t, hooktest.Event("evt_2", "customer.subscription.updated", 2, object("canceled", `,"metadata":{"why":"moved"}`)), 200, webhooks.OutcomeProcessed)
	if got := get(t, host, "sub_1").Metadata["why"]; got != "moved" {
		t.Errorf("the metadata is %q", got)
	}
}

// OnChange is called once for each change, with the states before and after.
func TestOnChange(t *testing.T) {
	t.Parallel()
	var changes []string
	fail := false
	host := newHost(t, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		before := "nothing"
		if c.Before != nil {
			before = string(c.Before.Status)
		}
		if fail {
			return errors.New("no")
		}
		changes = append(changes, fmt.Sprintf("%s: %s to %s", c.Event.ID, before, c.After.Status))
		// OnChange can read the new row in the same transaction.
		row, err := subscriptions.New(tx).Get(ctx, c.After.ID)
		if err == nil && row.Status != c.After.Status {
			err = fmt.Errorf("the row has status %s", row.Status)
		}
		return err
	}})
	const updated = "customer.subscription.updated"
	host.Expect(t, hooktest.Event("evt_1", "customer.subscription.created", 1, object("incomplete", "")), 200, webhooks.OutcomeProcessed)
	host.Expect(t, hooktest.Event("evt_2", updated, 3, object("active", "")), 200, webhooks.OutcomeProcessed)
	host.Expect(t, hooktest.Event("evt_2", updated, 3, object("active", "")), 200, webhooks.OutcomeDuplicate)
	host.Expect(t, hooktest.Event("evt_3", updated, 2, object("past_due", "")), 200, webhooks.OutcomeStale)
	host.Expect(t, hooktest.Event("evt_4", updated, 4, object("active", `,"some_new_field":1`)), 200, webhooks.OutcomeStale)
	fail = true
	host.Expect(t, hooktest.Event("evt_5", updated, 5, object("unpaid", "")), 500, "")
	if got := get(t, host, "sub_1"); got.Status != "active" || got.LastEventID != "evt_4" {
		t.Errorf("after the failure the row is %s of %s", got.Status, got.LastEventID)
	}
	fail = false
	host.Expect(t, hooktest.Event("evt_5", updated, 5, object("unpaid", "")), 200, webhooks.OutcomeProcessed)
	want := []string{"evt_1: nothing to incomplete", "evt_2: incomplete to active", "evt_5: active to unpaid"}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Errorf("the changes (-want +got):\n%s", diff)
	}
}

// Concurrent events of one subscription are applied one after the other, also before its row exists: each change begins
// with the state that the previous one ended with.
func TestConcurrentEventsOfOneSubscription(t *testing.T) {
	t.Parallel()
	const events = 20
	host := newHost(t, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		before := "nothing"
		if c.Before != nil {
			before = c.Before.Metadata["n"]
		}
		_, err := tx.Exec(ctx, `INSERT INTO changes (before, after) VALUES ($1, $2)`, before, c.After.Metadata["n"])
		return err
	}})
	pgtest.Exec(t, host.Pool, `CREATE TABLE changes (n serial, before text, after text)`)
	var wg sync.WaitGroup
	for i := range events {
		wg.Go(func() {
			body := hooktest.Event(fmt.Sprintf("evt_%d", i), "customer.subscription.updated", int64(i), object("active", fmt.Sprintf(`,"metadata":{"n":"%d"}`, i)))
			if reply := host.Send(t, body); !reply.OK() {
				t.Errorf("the reply is %s", reply)
			}
		})
	}
	wg.Wait()
	if got := get(t, host, "sub_1").Metadata["n"]; got != strconv.Itoa(events-1) {
		t.Errorf("the last state is %s", got)
	}
	broken := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int FROM (
		SELECT before, lag(after, 1, 'nothing') OVER (ORDER BY n) AS last FROM changes) AS c WHERE before <> last`)
	if broken != 0 {
		t.Errorf("%d changes do not begin with the previous change's state", broken)
	}
}

// Items are written with their subscription and deleted when Stripe drops them. A stale event does not change them.
func TestItems(t *testing.T) {
	t.Parallel()
	onChange := func(context.Context, pgx.Tx, subscriptions.Change) error { return nil }
	for name, config := range map[string]*subscriptions.Config{"by the digest": nil, "by the stored row": {OnChange: onChange}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testItems(t, newHost(t, config))
		})
	}
}

func testItems(t *testing.T, host *hooktest.Host) {
	send := func(id string, created int64, want webhooks.Outcome, items string) {
		t.Helper()
		host.Expect(t, hooktest.Event(id, "customer.subscription.updated", created, object("active", `,"items":{"data":[`+items+`]}`)), 200, want)
	}
	ids := func() string {
		return pgtest.Scan[string](t, host.Pool, `SELECT coalesce(string_agg(id || '=' || coalesce(quantity::text, ''), ' ' ORDER BY position), '') FROM subscription_items`)
	}
	for i, c := range []struct {
		created     int64
		outcome     webhooks.Outcome
		items, want string
	}{
		{10, "processed", `{"id":"si_a","quantity":1},{"id":"si_b"}`, "si_a=1 si_b="},
		{20, "processed", `{"id":"si_b","quantity":2},{"id":"si_c","quantity":3}`, "si_b=2 si_c=3"},
		{15, "stale", `{"id":"si_z"}`, "si_b=2 si_c=3"},
		{30, "stale", `{"id":"si_c","quantity":3},{"id":"si_b","quantity":2}`, "si_b=2 si_c=3"}, // the order alone is no change
		{37, "processed", `{"id":"si_c","quantity":3},{"id":"si_b","quantity":4}`, "si_c=3 si_b=4"},
		{40, "processed", ``, ""},
		{41, "processed", `{"id":"si_a"},{"id":"si_b"}`, "si_a= si_b="},
		{42, "processed", `{"id":"si_b"}`, "si_b="}, // the row has no digest, like a row of an earlier version
		{43, "processed", `{"id":"si_b"}`, "si_b="}, // an earlier version without digests has written meanwhile
	} {
		switch c.created {
		case 42:
			pgtest.Exec(t, host.Pool, `UPDATE subscriptions SET digest = NULL`)
		case 43:
			pgtest.Exec(t, host.Pool, `UPDATE subscriptions SET status = 'past_due', revision = revision + 1`)
			pgtest.Exec(t, host.Pool, `UPDATE subscription_items SET id = 'si_z', quantity = 9`)
		}
		send(fmt.Sprintf("evt_%d", i), c.created, c.outcome, c.items)
		if got := ids(); got != c.want {
			t.Errorf("step %d: the items are %q, want %q", i, got, c.want)
		}
	}
	// The tables do not require an item's id to be unique across subscriptions.
	other := `{"id":"sub_2","status":"active","items":{"data":[{"id":"si_a"}]}}`
	send("evt_a", 50, "processed", `{"id":"si_a"}`)
	host.Expect(t, hooktest.Event("evt_b", "customer.subscription.created", 50, other), 200, webhooks.OutcomeProcessed)
}

// Handlers also run for events that are stale to the projection: a handler runs once for each event.
func TestHandlersRunForStaleEvents(t *testing.T) {
	t.Parallel()
	ran := 0
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	webhooks.On(h, "customer.subscription.updated", func(context.Context, pgx.Tx, *webhooks.Event, *map[string]any) error {
		ran++
		return nil
	})
	host := hooktest.New(t, h, nil)
	host.Expect(t, hooktest.Event("evt_1", "customer.subscription.updated", 2, object("active", "")), 200, webhooks.OutcomeProcessed)
	host.Expect(t, hooktest.Event("evt_2", "customer.subscription.updated", 1, object("unpaid", "")), 200, webhooks.OutcomeProcessed)
	if ran != 2 || get(t, host, "sub_1").Status != "active" {
		t.Errorf("the handler ran %d times, the status is %s", ran, get(t, host, "sub_1").Status)
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	host := newHost(t, nil)
	for i, s := range []struct{ id, status string }{
		{"sub_old", "active"}, {"sub_ended", "canceled"}, {"sub_unpaid", "unpaid"}, {"sub_new", "trialing"}, {"sub_late", "past_due"},
	} {
		body := fmt.Sprintf(`{"id":%q,"customer":"cus_1","status":%q,"created":%d,"items":{"data":[{"id":"si_%d"}]}}`, s.id, s.status, i+1, i)
		host.Expect(t, hooktest.Event("evt_"+s.id, "customer.subscription.created", 1, body), 200, webhooks.OutcomeProcessed)
	}
	reader := subscriptions.New(host.Pool)
	list, err := reader.ListByCustomer(t.Context(), "cus_1")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, sub := range list {
		ids = append(ids, sub.ID)
		if len(sub.Items) != 1 {
			t.Errorf("%s has %d items", sub.ID, len(sub.Items))
		}
	}
	if diff := cmp.Diff([]string{"sub_late", "sub_new", "sub_unpaid", "sub_ended", "sub_old"}, ids); diff != "" {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
	// After the current subscription is deleted, the next one is current.
	for _, want := range []string{"sub_new", "sub_old", "sub_late", "sub_unpaid", "sub_ended"} {
		current, err := reader.Current(t.Context(), "cus_1")
		if err != nil || current.ID != want {
			t.Errorf("the current one is %v, %v, want %s", current, err, want)
		}
		pgtest.Exec(t, host.Pool, `DELETE FROM subscriptions WHERE id = $1`, want)
	}
	if _, err := reader.Current(t.Context(), "cus_1"); !errors.Is(err, subscriptions.ErrNotFound) {
		t.Errorf("without subscriptions Current gave %v", err)
	}
	if _, err := reader.Get(t.Context(), "sub_old"); !errors.Is(err, subscriptions.ErrNotFound) {
		t.Errorf("Get of nothing gave %v", err)
	}
}

// Every query exec mode of pgx works, including the modes for poolers in transaction mode.
func TestQueryExecModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := webhooks.NewHandlers()
			subscriptions.Register(h, nil)
			host := hooktest.On(t, pgtest.Connect(t, pgtest.NewURL(t)+"&default_query_exec_mode="+mode), h, nil)
			more := `,"metadata":{"a":"b"},"current_period_start":5,"items":{"data":[{"id":"si_1","quantity":2}]}`
			host.Expect(t, hooktest.Event("evt_1", "customer.subscription.created", 1, object("active", more)), 200, webhooks.OutcomeProcessed)
			host.Expect(t, hooktest.Event("evt_1", "customer.subscription.created", 1, object("active", more)), 200, webhooks.OutcomeDuplicate)
			host.Expect(t, hooktest.Event("evt_2", "customer.subscription.updated", 2, object("unpaid", more)), 200, webhooks.OutcomeProcessed)
			sub := get(t, host, "sub_1")
			if list, err := subscriptions.New(host.Pool).ListByCustomer(t.Context(), "cus_1"); err != nil || len(list) != 1 || sub.Metadata["a"] != "b" {
				t.Errorf("the row is %+v, the list %v, %v", sub, list, err)
			}
		})
	}
}

// Events are also ordered if the ledger's column cannot hold the subscription's id unchanged.
func TestOddID(t *testing.T) {
	t.Parallel()
	host := newHost(t, nil)
	odd := func(id string, created int64, status string) []byte {
		return hooktest.Event(id, updatedType, created, `{"id":"sub_\u0000","object":"subscription","status":"`+status+`"}`)
	}
	host.Expect(t, odd("evt_2", 2, "active"), 200, webhooks.OutcomeProcessed)
	host.Expect(t, odd("evt_1", 1, "past_due"), 200, webhooks.OutcomeStale)
	if sub := get(t, host, "sub_\ufffd"); sub.Status != "active" {
		t.Errorf("the status is %s", sub.Status)
	}
}

// OnChange may go on after an error that kept its first statement from being sent. The subscription's row, which was to be
// sent with it, is written all the same.
func TestOnChangeGoesOnAfterAnError(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"an ended context": func(ctx context.Context, tx pgx.Tx) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, err := tx.Exec(ctx, `SELECT $1::int`, 1)
			return err
		},
		"missing arguments": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT @a::int`, pgx.StrictNamedArgs{"b": 1})
			return err
		},
	} {
		h := webhooks.NewHandlers()
		subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, _ subscriptions.Change) error {
			if err := fails(ctx, tx); err == nil {
				t.Errorf("%s: it succeeds", name)
			}
			return nil
		}})
		host := hooktest.New(t, h, nil)
		for i, status := range []string{"active", "canceled"} {
			body := hooktest.Event(fmt.Sprintf("evt_%d", i), "customer.subscription.updated", int64(1000+i), subscription("sub_1", status))
			host.Expect(t, body, 200, webhooks.OutcomeProcessed)
			if stored := pgtest.Scan[string](t, host.Pool, `SELECT status FROM subscriptions`); stored != status {
				t.Errorf("%s: the row has the status %s, want %s", name, stored, status)
			}
		}
	}
}
