package subscriptions_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// footprint is a database in a cluster of its own, since the write-ahead log belongs to the cluster.
type footprint struct {
	pool    *pgxpool.Pool
	url     string
	events  []*stripesim.Event
	objects int64 // bytes of those that are measured
}

// extending is how many events are not measured, since they extend the files.
const extending = 50

func newFootprint(t *testing.T, statements ...string) *footprint {
	t.Helper()
	settings := pglocal.Quiet()
	settings["full_page_writes"] = "off"
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true, Settings: settings})
	if err := cluster.CreateDatabase(t.Context(), "footprint"); err != nil {
		t.Fatal(err)
	}
	f := &footprint{url: cluster.URL("footprint")}
	if err := migrate.Up(t.Context(), f.url, io.Discard); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.pool, err = pgxpool.New(t.Context(), f.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pgtest.Close(t, f.pool) })
	for _, statement := range statements {
		pgtest.Exec(t, f.pool, statement)
	}
	account := stripesim.New(1, stripesim.Epoch)
	account.Live(stripesim.Life{Subscriptions: 60})
	f.events = slices.DeleteFunc(slices.Clone(account.Events), func(ev *stripesim.Event) bool { return !strings.HasPrefix(ev.Type, "customer.subscription.") })
	for _, ev := range f.events[extending:] {
		parsed, err := webhooks.ParseEvent(ev.Body)
		if err != nil {
			t.Fatal(err)
		}
		f.objects += int64(len(parsed.Object))
	}
	return f
}

func (f *footprint) receiver(t *testing.T, config *subscriptions.Config) *hooktest.Host {
	t.Helper()
	h := webhooks.NewHandlers()
	subscriptions.Register(h, config)
	return hooktest.On(t, f.pool, h, nil)
}

// send delivers events, and returns what PostgreSQL has written meanwhile.
func (f *footprint) send(t *testing.T, to *hooktest.Host, list []*stripesim.Event) pglocal.Written {
	t.Helper()
	before := f.look(t)
	for _, ev := range list {
		if reply := to.Send(t, ev.Body); !reply.OK() {
			t.Error(reply)
		}
	}
	return f.look(t).Since(before)
}

func (f *footprint) look(t *testing.T) pglocal.Written {
	t.Helper()
	w, err := pglocal.ReadWritten(t.Context(), f.pool)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// An event takes one transaction id and not much more write-ahead log than the size of its object. A duplicate writes
// nothing.
func TestFootprint(t *testing.T) {
	t.Parallel()
	f := newFootprint(t)
	here, elsewhere := f.receiver(t, nil), f.receiver(t, nil)
	f.send(t, here, f.events[:extending])
	n := int64(len(f.events) - extending)
	wrote := f.send(t, here, f.events[extending:])
	t.Logf("an event: %d bytes of WAL, %d of its object", wrote.WAL/n, f.objects/n)
	if wrote.XID != n || wrote.WAL > 3*f.objects/2 {
		t.Errorf("%d events wrote %+v, for objects of %d bytes", n, wrote, f.objects)
	}
	for name, to := range map[string]*hooktest.Host{"known here": here, "found in the transaction": elsewhere} {
		if wrote := f.send(t, to, f.events); wrote != (pglocal.Written{}) {
			t.Errorf("duplicates %s wrote %+v", name, wrote)
		}
	}
	pgtest.Close(t, f.pool) // its sessions report their statistics when they end
	updates, hot := tupleUpdates(t, f.url)
	t.Logf("%d updates of subscriptions, %d of them HOT", updates, hot)
	if updates == 0 || hot < updates*9/10 {
		t.Errorf("%d of %d updates of subscriptions are HOT, and leave the indexes alone", hot, updates)
	}
}

// A handler adds what its own statement writes, and nothing else: an OnChange of one UPDATE takes no further transaction id,
// and less than 200 bytes of write-ahead log.
func TestFootprintWithAHandler(t *testing.T) {
	t.Parallel()
	alone, with := newFootprint(t), newFootprint(t, `CREATE TABLE accounts (customer_id text PRIMARY KEY, status text) WITH (fillfactor = 50)`)
	for _, ev := range with.events {
		parsed, err := webhooks.ParseEvent(ev.Body)
		if err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, with.pool, `INSERT INTO accounts VALUES ($1) ON CONFLICT DO NOTHING`, parsed.CustomerID())
	}
	var called int64
	config := &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		called++
		_, err := tx.Exec(ctx, `UPDATE accounts SET status = $2 WHERE customer_id = $1`, c.After.CustomerID, string(c.After.Status))
		return err
	}}
	measure := func(f *footprint, to *hooktest.Host) pglocal.Written {
		f.send(t, to, f.events[:extending])
		called = 0
		return f.send(t, to, f.events[extending:])
	}
	without, wrote := measure(alone, alone.receiver(t, nil)), measure(with, with.receiver(t, config))
	n := int64(len(with.events) - extending)
	each := (wrote.WAL - without.WAL) / max(called, 1)
	t.Logf("a handler's UPDATE: %d bytes of WAL", each)
	if called < n/2 || wrote.XID != n || each > 200 {
		t.Errorf("OnChange was called %d times for %d events, which took %d transaction ids; each added %d bytes", called, n, wrote.XID, each)
	}
	if wrote := with.send(t, with.receiver(t, config), with.events); wrote != (pglocal.Written{}) {
		t.Errorf("duplicates wrote %+v", wrote)
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
