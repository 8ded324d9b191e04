package subscriptions_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/stripesim"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// An event takes one transaction id and not much more write-ahead log than the size of its object. A duplicate writes
// nothing. The test has its own cluster, since the write-ahead log belongs to the cluster.
func TestFootprint(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	settings := pglocal.Quiet()
	settings["full_page_writes"] = "off"
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true, Settings: settings})
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
	t.Cleanup(func() { pgtest.Close(t, pool) })
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
	look := func() pglocal.Written {
		w, err := pglocal.ReadWritten(ctx, pool)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	send := func(to *hooktest.Host, list []*stripesim.Event) pglocal.Written {
		before := look()
		for _, ev := range list {
			if reply := to.Send(t, ev.Body); !reply.OK() {
				t.Error(reply)
			}
		}
		return look().Since(before)
	}
	send(here, events[:50]) // extends the files
	for _, ev := range events[50:] {
		parsed, err := webhooks.ParseEvent(ev.Body)
		if err != nil {
			t.Fatal(err)
		}
		objects += len(parsed.Object)
	}
	n := int64(len(events) - 50)
	wrote := send(here, events[50:])
	t.Logf("an event: %d bytes of WAL, %d of its object", wrote.WAL/n, int64(objects)/n)
	if wrote.XID != n || wrote.WAL > 3*int64(objects)/2 {
		t.Errorf("%d events wrote %+v, for objects of %d bytes", n, wrote, objects)
	}
	for name, to := range map[string]*hooktest.Host{"known here": here, "found in the transaction": elsewhere} {
		if wrote := send(to, events); wrote != (pglocal.Written{}) {
			t.Errorf("duplicates %s wrote %+v", name, wrote)
		}
	}
	pgtest.Close(t, pool) // its sessions report their statistics when they end
	updates, hot := tupleUpdates(t, cluster.URL("footprint"))
	t.Logf("%d updates of subscriptions, %d of them HOT", updates, hot)
	if updates == 0 || hot < updates*9/10 {
		t.Errorf("%d of %d updates of subscriptions are HOT, and leave the indexes alone", hot, updates)
	}
}

// tupleUpdates waits until all other sessions have ended. It returns the number of updates of subscriptions and how many
// of them were HOT.
func tupleUpdates(t *testing.T, databaseURL string) (updates, hot int64) {
	t.Helper()
	pool := pgtest.Connect(t, databaseURL)
	pgtest.AwaitSQL(t, pool, "all other sessions have ended",
		"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())")
	row := pool.QueryRow(t.Context(), "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'subscriptions'")
	if err := row.Scan(&updates, &hot); err != nil {
		t.Fatal(err)
	}
	return updates, hot
}
