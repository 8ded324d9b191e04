package webhooks_test

import (
	"context"
	"errors"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/webhooks"
)

// A trigger of the host's that fails for want of a lock is the database's trouble.
func TestReadyWithATriggerThatWaits(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (1); RETURN NEW; END $$`)
	pgtest.Exec(t, pool, `CREATE TABLE audit (n int); CREATE TRIGGER audit BEFORE INSERT ON stripe_webhook_events FOR EACH ROW EXECUTE FUNCTION audit()`)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE audit IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	host := hooktest.On(t, pool, withSubscriptions(), func(c *webhooks.Config) { c.LockTimeout = 100 * time.Millisecond })
	if err := host.Receiver.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "SQLSTATE 55P03") {
		t.Errorf("Ready says %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantProcessed(t, host)
}

// A setting that changes for new connections shows in a delivery, and then in Ready.
func TestReadyAfterASettingChanged(t *testing.T) {
	t.Parallel()
	url := pgtest.NewURL(t)
	pool := pgtest.Connect(t, inMode(url, "exec"))
	host := newMirror(t, pool)
	wantProcessed(t, host)
	pgtest.Exec(t, pgtest.Connect(t, url), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET DateStyle = German', current_database()); END $$`)
	pool.Reset()
	host.Expect(t, about("evt_2", "sub_1", "past_due"), 500, "")
	wantUnready(t, host, "add DateStyle=ISO")
}

// A probe that has no time for the trial gives up; the trial goes on, and the next probe finds its result.
func TestReadyWithLittleTime(t *testing.T) {
	t.Parallel()
	way := newHolder()
	host := newMirror(t, pgtest.ConnectBy(t, inMode(pgtest.NewURL(t), "cache_describe"), way.dial))
	way.hold("StripeWebhookFailureUpsert")
	ctx, cancel := context.WithCancel(t.Context())
	probed := make(chan error, 1)
	go func() { probed <- host.Receiver.Ready(ctx) }()
	pgtest.Receive(t, "the trial is in progress", way.held)
	cancel()
	if err := pgtest.Receive(t, "the probe gives up", probed); err == nil || !strings.Contains(err.Error(), "a trial delivery is in progress") {
		t.Errorf("Ready says %v", err)
	}
	close(way.resume)
	isReady(t, host)
}

// A trigger that drops rows without an error would have every duplicate take effect: not ready.
func TestReadyWithATriggerThatDropsRows(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"stripe_webhook_events", "stripe_webhook_failures", "subscriptions", "subscription_items"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			host := newMirror(t, pgtest.NewPool(t))
			pgtest.Exec(t, host.Pool, `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`)
			pgtest.Exec(t, host.Pool, `CREATE TRIGGER nothing BEFORE INSERT ON `+table+` FOR EACH ROW EXECUTE FUNCTION nothing()`)
			wantUnready(t, host, table)
		})
	}
}

// Where the tables are in a schema to which search_path does not lead, the error names it.
func TestReadyWithoutTheSearchPath(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmptyURL(t)
	if err := migrate.Up(t.Context(), url+"&search_path=billing", io.Discard); err != nil {
		t.Fatal(err)
	}
	wantUnready(t, newMirror(t, pgtest.Connect(t, url)), "if the tables of the schema billing are this receiver's, add search_path to the database URL")
	wantProcessed(t, newMirror(t, pgtest.Connect(t, url+"&search_path=billing")))
}

// What the migrations' records do not show: a table that is gone, a column that the role may not write.
func TestReadyBehindTheMigrations(t *testing.T) {
	t.Parallel()
	for statement, reason := range map[string]string{
		`ALTER TABLE stripe_webhook_failures RENAME TO elsewhere`:                          "records a table that does not exist: stripe_webhook_failures",
		`ALTER TABLE subscription_items RENAME TO elsewhere`:                               "records a table that does not exist: subscription_items",
		`ALTER TABLE subscriptions RENAME COLUMN billing_mode TO mode`:                     `column "billing_mode"`,
		`REVOKE UPDATE ON subscriptions FROM %s; GRANT UPDATE (id) ON subscriptions TO %s`: `permission denied for table subscriptions`,
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			url := pgtest.NewURL(t)
			admin := pgtest.Connect(t, url)
			role := pgtest.NewRole(t, admin)
			pgtest.Exec(t, admin, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO `+role)
			pgtest.Exec(t, admin, strings.ReplaceAll(statement, "%s", role))
			wantUnready(t, newMirror(t, pgtest.ConnectAs(t, url, role)), reason)
		})
	}
}

// Ten replicas find out at once. Nothing of it stays, and later probes write nothing.
func TestReadyTenAtOnce(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pglocal.Config{Settings: pglocal.Quiet()})
	url := cluster.URL("postgres")
	if err := migrate.Up(t.Context(), url, io.Discard); err != nil {
		t.Fatal(err)
	}
	var hosts []*hooktest.Host
	for range 10 {
		hosts = append(hosts, newMirror(t, pgtest.Connect(t, url)))
	}
	probe := func() {
		t.Helper()
		errs := make([]error, len(hosts))
		var wg sync.WaitGroup
		for i, host := range hosts {
			wg.Go(func() { errs[i] = host.Receiver.Ready(t.Context()) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	probe()
	for _, table := range []string{"stripe_webhook_events", "stripe_webhook_failures", "subscriptions", "subscription_items"} {
		if n := pgtest.Scan[int](t, hosts[0].Pool, `SELECT count(*)::int FROM `+table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	before, err := pglocal.ReadWritten(t.Context(), hosts[0].Pool)
	if err != nil {
		t.Fatal(err)
	}
	probe()
	after, err := pglocal.ReadWritten(t.Context(), hosts[0].Pool)
	if err != nil || after.XID != before.XID {
		t.Errorf("later probes took %d transaction ids, %v", after.XID-before.XID, err)
	}
	for i, host := range hosts {
		want := webhooks.OutcomeDuplicate
		if i == 0 {
			want = webhooks.OutcomeProcessed
		}
		host.Expect(t, about("evt_1", "sub_1", "active"), 200, want)
	}
}

// On a full disk it is not ready, no handler runs, and once there is room it serves again.
func TestReadyOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	cluster := pgtest.NewCluster(t, pglocal.Config{})
	cmd := osexec.Command("mkdir", filepath.Join(dir, "space"))
	cluster.AsServer(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	url := cluster.URL("postgres")
	if err := migrate.Up(t.Context(), url, io.Discard); err != nil {
		t.Fatal(err)
	}
	calls := 0
	host := hooktest.On(t, pgtest.Connect(t, url), counting(func(context.Context, pgx.Tx) error { calls++; return nil }), nil)
	pgtest.Exec(t, host.Pool, `CREATE TABLE counter (n bigint)`)
	pgtest.Exec(t, host.Pool, `INSERT INTO counter VALUES (0)`)
	pgtest.Exec(t, host.Pool, `CREATE TABLESPACE small LOCATION '`+filepath.Join(dir, "space")+`'`)
	isReady(t, host)
	pgtest.Exec(t, host.Pool, `ALTER TABLE stripe_webhook_events SET TABLESPACE small`)
	filler := filepath.Join(dir, "filler")
	if out, err := osexec.Command("dd", "if=/dev/zero", "of="+filler, "bs=4k").CombinedOutput(); err == nil {
		t.Fatalf("the disk did not run full: %s", out)
	}
	if _, err := host.Pool.Exec(t.Context(), `DO $$ BEGIN
		FOR n IN 1..1000 LOOP
			INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_filler_' || n, 'filler', 'processed', false);
			COMMIT;
		END LOOP; END $$`); err == nil || !strings.Contains(err.Error(), "SQLSTATE 53100") {
		t.Fatalf("the pages that are there hold 1000 rows: %v", err)
	}
	host.Expect(t, testEvent, 503, "")
	once := calls
	for range 3 {
		host.Expect(t, testEvent, 503, "")
	}
	if err := host.Receiver.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "No space left on device") {
		t.Errorf("Ready says %v", err)
	}
	if calls != once {
		t.Errorf("a handler ran %d times on a full disk, after the first", calls-once)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	isReady(t, host)
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
}

// smallDisk is a file system of 1 MB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount a small file system")
	}
	dir := t.TempDir()
	for path := dir; path != "/" && path != filepath.Clean(os.TempDir()); path = filepath.Dir(path) {
		_ = os.Chmod(path, 0o755) // PostgreSQL's user must get through
	}
	if out, err := osexec.Command("mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("a small file system cannot be mounted here: %s", out)
	}
	t.Cleanup(func() { _ = osexec.Command("umount", "-l", dir).Run() })
	return dir
}
