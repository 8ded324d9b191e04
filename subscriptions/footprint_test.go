package subscriptions_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/stripesim"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// What an event leaves in PostgreSQL: one transaction id, and not much more write-ahead log than its object is
// long. A duplicate leaves nothing. A cluster of its own, since the log is the cluster's.
func TestFootprint(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cluster, err := pglocal.Start(ctx, pglocal.Config{Disposable: true, Settings: map[string]string{
		"autovacuum": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop() })
	if err := cluster.CreateDatabase(ctx, "footprint"); err != nil {
		t.Fatal(err)
	}
	if err := migrate.Up(ctx, cluster.URL("footprint"), io.Discard); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, cluster.URL("footprint"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	receiver := func() *hooktest.Host {
		h := webhooks.NewHandlers()
		subscriptions.Register(h, nil)
		return hooktest.On(t, pool, h, nil)
	}
	here, elsewhere := receiver(), receiver()

	account := stripesim.New(1, stripesim.Epoch)
	account.Live(stripesim.Life{Subscriptions: 60})
	events := slices.DeleteFunc(slices.Clone(account.Events), func(ev *stripesim.Event) bool { return !strings.HasPrefix(ev.Type, "customer.subscription.") })
	objects := 0
	send := func(to *hooktest.Host, list []*stripesim.Event) (xids, wal int64) {
		before := look(t, ctx, pool)
		for _, ev := range list {
			if reply := to.Send(t, ev.Body); !reply.OK() {
				t.Error(reply)
			}
		}
		after := look(t, ctx, pool)
		return after.xid - before.xid, after.wal - before.wal
	}
	send(here, events[:50]) // which extends the files
	for _, ev := range events[50:] {
		parsed, err := webhooks.ParseEvent(ev.Body)
		if err != nil {
			t.Fatal(err)
		}
		objects += len(parsed.Object)
	}
	n := int64(len(events) - 50)
	xids, wal := send(here, events[50:])
	t.Logf("an event: %d bytes of WAL, %d of its object", wal/n, int64(objects)/n)
	if xids != n || wal > 3*int64(objects)/2 {
		t.Errorf("%d events took %d transaction ids and %d bytes of WAL, for objects of %d bytes", n, xids, wal, objects)
	}
	for name, to := range map[string]*hooktest.Host{"known here": here, "found in the transaction": elsewhere} {
		if xids, wal := send(to, events); xids != 0 || wal != 0 {
			t.Errorf("duplicates %s took %d transaction ids and %d bytes of WAL", name, xids, wal)
		}
	}
}

type footprint struct{ xid, wal int64 }

func look(t *testing.T, ctx context.Context, pool *pgxpool.Pool) (f footprint) {
	t.Helper()
	err := pool.QueryRow(ctx, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&f.xid, &f.wal)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
