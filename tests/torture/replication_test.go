package torture

import (
	"io"
	"os"
	"testing"

	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema/migrate"
)

// A second server, to which the tables are replicated logically, becomes equal to the first one: rows, views, and what is deleted. It is
// connected under load, and away for a time.
func TestLogicalReplication(t *testing.T) {
	t.Parallel()
	w := newBilledWorld(t, pglocal.Config{Settings: map[string]string{"wal_level": "logical"}})
	script, err := os.ReadFile("../../deploy/publication.sql")
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, w.direct, string(script))
	pgtest.Exec(t, w.direct, `CREATE PUBLICATION effects FOR TABLE effects`)

	analytics := pgtest.NewCluster(t, pglocal.Config{})
	url := analytics.URL("postgres")
	if err := migrate.Up(t.Context(), url, io.Discard); err != nil {
		t.Fatal(err)
	}
	second := pgtest.Connect(t, url)
	pgtest.Exec(t, second, judge.EffectsTable)

	r := w.start(standard, w.url, "127.0.0.1:0")
	w.deliver(r.url(), 8, w.live(times(5, 30)))
	connected := make(chan struct{})
	go func() {
		defer close(connected)
		pgtest.Exec(t, second, `CREATE SUBSCRIPTION stripeonce CONNECTION 'host=`+w.cluster.Socket()+` user=stripeonce dbname=postgres' PUBLICATION stripeonce, effects`)
	}()
	w.deliver(r.url(), 8, w.live(times(5, 30)))
	pgtest.Receive(t, "the subscription is created", connected)
	pgtest.Exec(t, second, `ALTER SUBSCRIPTION stripeonce DISABLE`)
	w.deliver(r.url(), 8, w.live(times(5, 30)))
	pgtest.Exec(t, second, `ALTER SUBSCRIPTION stripeonce ENABLE`)
	w.judge()

	pgtest.AwaitSQL(t, second, "every table has been copied", `SELECT count(*) = 8 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel`)
	end := pgtest.Scan[string](t, w.direct, `SELECT pg_current_wal_lsn()::text`)
	pgtest.AwaitSQL(t, w.direct, "the second server has applied everything", `SELECT confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = 'stripeonce'`, end)
	w.judgeOn(second)
	const invoices = `SELECT count(*)::int FROM stripe_invoices`
	if first, copied := pgtest.Scan[int](t, w.direct, invoices), pgtest.Scan[int](t, second, invoices); first == 0 || first != copied {
		t.Errorf("of %d invoices the view on the second server has %d", first, copied)
	}
	pgtest.Exec(t, w.direct, `DELETE FROM stripe_objects WHERE object_type = 'invoice'`)
	pgtest.AwaitSQL(t, second, "what is deleted is deleted there, too", `SELECT NOT EXISTS (SELECT FROM stripe_invoices)`)
	addRow(t, "04i", "logical replication of the tables to a second server", "the subscription created under a storm of deliveries, then disabled during another one, and enabled",
		"on the second server as on the first: %s", w.summary())
}
