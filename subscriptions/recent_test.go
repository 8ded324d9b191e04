package subscriptions_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// sameJSON compares objects by their value: jsonb orders the members anew.
var sameJSON = cmp.Comparer(func(a, b json.RawMessage) bool {
	var x, y any
	return len(a) == 0 && len(b) == 0 || json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && cmp.Equal(x, y)
})

// wholeReads counts the reads of whole rows for events.
type wholeReads struct{ n atomic.Int64 }

func (w *wholeReads) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	w.count(data.SQL)
	return ctx
}
func (w *wholeReads) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (w *wholeReads) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, query := range data.Batch.QueuedQueries {
		w.count(query.SQL)
	}
	return ctx
}
func (w *wholeReads) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (w *wholeReads) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (w *wholeReads) count(sql string) {
	if strings.Contains(sql, "name: SubscriptionGet ") {
		w.n.Add(1)
	}
}

// recentHost is a receiver with OnChange, which compares its Changes with the table.
type recentHost struct {
	*hooktest.Host
	changes []subscriptions.Change
	fail    bool
}

func newRecentHost(t *testing.T, pool *pgxpool.Pool, keep int) *recentHost {
	t.Helper()
	host, h := &recentHost{}, webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{KeepRecent: keep, Logger: hooktest.NoLog(), OnChange: func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
		if host.fail {
			return errOnPurpose
		}
		host.changes = append(host.changes, c)
		return nil
	}})
	host.Host = hooktest.On(t, pool, h, nil)
	return host
}

// spoil changes everything that a handler can reach.
func spoil(s *subscriptions.Subscription) {
	if s == nil {
		return
	}
	clear(s.Object)
	clear(s.Metadata)
	clear(s.DiscountIDs)
	for _, at := range []*time.Time{s.CancelAt, s.CanceledAt, s.CurrentPeriodStart, s.CurrentPeriodEnd, s.TrialStart, s.TrialEnd, s.Created, s.LastEventCreatedAt} {
		if at != nil {
			*at = time.Time{}
		}
	}
	if s.PauseCollection != nil {
		clear(s.PauseCollection.Object)
		s.PauseCollection.Behavior = ""
	}
	for i := range s.Items {
		clear(s.Items[i].Metadata)
		if s.Items[i].Quantity != nil {
			*s.Items[i].Quantity = -1
		}
		s.Items[i] = subscriptions.Item{}
	}
}

// Before is the row as it was, and After the row as it becomes, wherever Before comes from: whether another process wrote
// the row last, an attempt was rolled back, or a handler has changed what it was given.
func TestBeforeIsTheRow(t *testing.T) {
	t.Parallel()
	account := stripesim.New(11, time.Date(2026, 1, 31, 23, 59, 50, 0, time.UTC))
	pool := pgtest.Connect(t, pgtest.NewURL(t))
	hosts := []*recentHost{newRecentHost(t, pool, 0), newRecentHost(t, pool, 2), newRecentHost(t, pool, -1)}
	reader, ctx := subscriptions.New(pool), t.Context()
	row := func(id string) *subscriptions.Subscription {
		sub, err := reader.Get(ctx, id)
		if err != nil && !errors.Is(err, subscriptions.ErrNotFound) {
			t.Fatal(err)
		}
		return sub
	}
	changes := 0
	for i, e := range account.Live(stripesim.Life{Subscriptions: 20, Bursts: true}) {
		ev, err := webhooks.ParseEvent(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		host := hosts[[]int{0, 0, 1, 0, 2, 1, 1}[i%7]]
		before := row(ev.ObjectID())
		host.changes, host.fail = nil, i%5 == 0
		if _, err := host.Receiver.Apply(ctx, ev); err != nil && !errors.Is(err, errOnPurpose) {
			t.Fatal(err)
		}
		host.fail = false
		if _, err := host.Receiver.Apply(ctx, ev); err != nil {
			t.Fatal(err)
		}
		for _, c := range host.changes {
			changes++
			if diff := cmp.Diff(before, c.Before, sameJSON); diff != "" {
				t.Fatalf("Before of %s is not the row (-row +Before):\n%s", ev.ID, diff)
			}
			if diff := cmp.Diff(row(ev.ObjectID()), c.After, sameJSON); diff != "" {
				t.Fatalf("After of %s is not the row (-row +After):\n%s", ev.ID, diff)
			}
			spoil(c.Before)
			spoil(c.After)
		}
	}
	if changes < 50 {
		t.Errorf("%d changes", changes)
	}
}

// The whole row is read for the first event of a subscription in a process, and where another process wrote the row last.
func TestKeptVersionIsNotRead(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	reads := &wholeReads{}
	config.ConnConfig.Tracer = reads
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pgtest.Close(t, pool) })
	host, other, none := newRecentHost(t, pool, 0), newRecentHost(t, pool, 1), newRecentHost(t, pool, -1)
	n := 0
	deliver := func(to *recentHost, sub, status string) int64 {
		t.Helper()
		n++
		before := reads.n.Load()
		to.Expect(t, hooktest.Event("evt_"+status+sub+string(rune('a'+n)), "customer.subscription.updated", int64(n), subscription(sub, status)), 200, webhooks.OutcomeProcessed)
		return reads.n.Load() - before
	}
	for i, c := range []struct {
		to          *recentHost
		sub, status string
		want        int64
	}{
		{host, "sub_1", "trialing", 1}, {host, "sub_1", "active", 0}, {host, "sub_1", "past_due", 0},
		{other, "sub_1", "active", 1}, {host, "sub_1", "unpaid", 1}, {host, "sub_1", "active", 0},
		{other, "sub_2", "active", 1}, {other, "sub_2", "unpaid", 0}, {other, "sub_3", "active", 1}, {other, "sub_2", "active", 1},
		{none, "sub_4", "active", 1}, {none, "sub_4", "unpaid", 1},
	} {
		if got := deliver(c.to, c.sub, c.status); got != c.want {
			t.Errorf("event %d, of %s: the whole row was read %d times, want %d", i+1, c.sub, got, c.want)
		}
	}
}
