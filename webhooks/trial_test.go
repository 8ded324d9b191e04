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
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

func withSubscriptions() *webhooks.Handlers {
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	return h
}

// newMirror is a receiver of subscriptions on a pool.
func newMirror(t *testing.T, pool *pgxpool.Pool) *hooktest.Host {
	t.Helper()
	return hooktest.On(t, pool, withSubscriptions(), nil)
}

func inMode(url, mode string) string { return url + "&default_query_exec_mode=" + mode }

// wantUnready expects Ready to give the reason, and a delivery the reply 503 without any row.
func wantUnready(t *testing.T, host *hooktest.Host, reason string) {
	t.Helper()
	err := host.Receiver.Ready(t.Context())
	if !errors.Is(err, webhooks.ErrUnavailable) || !strings.Contains(err.Error(), reason) {
		t.Errorf("Ready says %v, want %q", err, reason)
	}
	host.Expect(t, about("evt_1", "sub_1", "active"), 503, "")
}

func wantProcessed(t *testing.T, host *hooktest.Host) {
	t.Helper()
	isReady(t, host)
	host.Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeProcessed)
	host.Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeDuplicate)
}

// A database that cannot hold Stripe's text is not ready, and cannot be migrated; the error says why.
func TestReadyOfAnEncoding(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"LATIN1", "SQL_ASCII", "EUC_JP"} {
		url := pgtest.NewDatabaseURL(t, "ENCODING '"+encoding+"' LOCALE 'C'")
		for _, mode := range execModes {
			t.Run(encoding+" "+mode, func(t *testing.T) {
				t.Parallel()
				wantUnready(t, newMirror(t, pgtest.Connect(t, inMode(url, mode))), "its encoding is "+encoding+": create the database with ENCODING 'UTF8'")
			})
		}
	}
}

// With another client_encoding PostgreSQL would take Stripe's text for that.
func TestReadyWithAClientEncoding(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			url := inMode(pgtest.NewURL(t), mode)
			wantUnready(t, newMirror(t, pgtest.Connect(t, url+"&client_encoding=LATIN1")), "add client_encoding=UTF8 to the database's URL")
			wantProcessed(t, newMirror(t, pgtest.Connect(t, url+"&client_encoding=UTF8")))
		})
	}
}

// A database whose settings change the text of times and bytes works, except where pgx reads text: there the error names
// the setting.
func TestReadyWithSettings(t *testing.T) {
	t.Parallel()
	for setting, name := range map[string]string{"bytea_output = 'escape'": "bytea_output", "DateStyle = 'German'": "DateStyle", "DateStyle = 'SQL, DMY'": "DateStyle"} {
		for _, mode := range execModes {
			t.Run(setting+" "+mode, func(t *testing.T) {
				t.Parallel()
				url := pgtest.NewURL(t)
				pgtest.Exec(t, pgtest.Connect(t, url), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET `+strings.ReplaceAll(setting, "'", "''")+`', current_database()); END $$`)
				host := newMirror(t, pgtest.Connect(t, inMode(url, mode)))
				if mode == "exec" || mode == "simple_protocol" {
					wantUnready(t, host, "add "+name+"=")
					value := map[string]string{"bytea_output": "hex", "DateStyle": "ISO"}[name]
					host = newMirror(t, pgtest.Connect(t, inMode(url, mode)+"&"+name+"="+value))
				}
				wantProcessed(t, host)
			})
		}
	}
}

// Row level security without a policy for what serving does is not ready; a policy that rejects or hides only the trial's
// row is the host's affair.
func TestReadyWithRowLevelSecurity(t *testing.T) {
	t.Parallel()
	allow := func(table string) string {
		return `CREATE POLICY all_of_it ON ` + table + ` USING (true) WITH CHECK (true);`
	}
	for name, c := range map[string]struct{ policies, lacks string }{
		"no policy":                   {"", "deploy/row_level_security.sql does: no policy allows INSERT on stripe_webhook_events, SELECT on stripe_webhook_events"},
		"a policy to insert":          {`CREATE POLICY one ON stripe_webhook_events FOR INSERT WITH CHECK (true)`, "SELECT on stripe_webhook_events"},
		"a policy for another role":   {`CREATE POLICY one ON stripe_webhook_events TO pg_monitor USING (true)`, "SELECT on stripe_webhook_events"},
		"only a restrictive policy":   {`CREATE POLICY one ON stripe_webhook_events AS RESTRICTIVE USING (true)`, "SELECT on stripe_webhook_events"},
		"policies":                    {allow("stripe_webhook_events"), ""},
		"a policy of the host's own":  {`CREATE POLICY one ON stripe_webhook_events USING (event_type LIKE 'customer.%')`, ""},
		"a policy that hides a trial": {`CREATE POLICY one ON stripe_webhook_events FOR SELECT USING (event_type LIKE 'customer.%'); CREATE POLICY two ON stripe_webhook_events FOR INSERT WITH CHECK (true); CREATE POLICY three ON stripe_webhook_events FOR UPDATE USING (true)`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.NewURL(t)
			admin := pgtest.Connect(t, url)
			role := pgtest.NewRole(t, admin)
			pgtest.Exec(t, admin, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO `+role)
			pgtest.Exec(t, admin, `ALTER TABLE stripe_webhook_events ENABLE ROW LEVEL SECURITY; `+c.policies)
			host := newMirror(t, pgtest.ConnectAs(t, url, role))
			if c.lacks != "" {
				wantUnready(t, host, c.lacks)
				return
			}
			wantProcessed(t, host)
		})
	}
}

// A constraint or a trigger of the host's that rejects the trial's rows shows that the tables accept writes.
func TestReadyWithConstraintsOfTheHosts(t *testing.T) {
	t.Parallel()
	refuse := `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.%[2]s LIKE '%%stripeonce_trial%%' THEN %[3]s; END IF; RETURN NEW; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON %[1]s FOR EACH ROW EXECUTE FUNCTION refuse()`
	trigger := func(table, column, does string) string {
		return strings.NewReplacer("%[1]s", table, "%[2]s", column, "%[3]s", does, "%%", "%").Replace(refuse)
	}
	for name, c := range map[string]string{
		"a check":                        `ALTER TABLE stripe_webhook_events ADD CHECK (event_id NOT LIKE '%trial%')`,
		"a check on subscriptions":       `ALTER TABLE subscriptions ADD CHECK (customer_id <> 'cus_trial')`,
		"a check on items":               `ALTER TABLE subscription_items ADD CHECK (id NOT LIKE '%trial%')`,
		"a foreign key":                  `CREATE TABLE customers (id VARCHAR COLLATE "C" PRIMARY KEY); INSERT INTO customers VALUES ('cus_1'); ALTER TABLE subscriptions ADD FOREIGN KEY (customer_id) REFERENCES customers`,
		"a trigger":                      trigger("stripe_webhook_events", "event_id", `RAISE EXCEPTION 'not this one'`),
		"a trigger with a code":          trigger("subscriptions", "id", `RAISE EXCEPTION 'not this one' USING ERRCODE = '55000'`),
		"a trigger that misses a table":  trigger("stripe_webhook_failures", "event_id", `PERFORM 1 FROM nowhere`),
		"a trigger that misses a number": trigger("subscription_items", "id", `PERFORM 'x'::int`),
		"a check that raises":            `ALTER TABLE subscriptions ADD CHECK (right(id, 1)::int >= 0)`,
		"a trigger that changes values":  `CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.currency := upper(NEW.currency); NEW.metadata := '{}'; RETURN NEW; END $$; CREATE TRIGGER change BEFORE INSERT OR UPDATE ON subscriptions FOR EACH ROW EXECUTE FUNCTION change()`,
		"an exclusion":                   `ALTER TABLE stripe_webhook_events ADD EXCLUDE USING btree (event_type WITH =)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := newMirror(t, pgtest.NewPool(t))
			pgtest.Exec(t, host.Pool, c)
			wantProcessed(t, host)
		})
	}
}

// What search_path leads to must be one schema's: other tables of the same names, before stripeonce's, are not it.
func TestReadyWithStrayTables(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmptyURL(t)
	pgtest.Exec(t, pgtest.Connect(t, url), `CREATE TABLE subscriptions (id text)`)
	if err := migrate.Up(t.Context(), url+"&search_path=stripeonce", io.Discard); err != nil {
		t.Fatal(err)
	}
	wantUnready(t, newMirror(t, pgtest.Connect(t, url+"&search_path=public,stripeonce")), "subscriptions of the schema public: put the schema that has stripeonce's tables before")
	wantProcessed(t, newMirror(t, pgtest.Connect(t, url+"&search_path=stripeonce,public")))
}

// The advice is what helps: tables without a record, a schema that the role may not use.
func TestReadyGivesAdvice(t *testing.T) {
	t.Parallel()
	url := pgtest.NewURL(t)
	admin := pgtest.Connect(t, url)
	pgtest.Exec(t, admin, `DELETE FROM stripeonce_migrations`)
	wantUnready(t, newMirror(t, pgtest.Connect(t, url)), "run 'stripeonce migrate --adopt'")
	pgtest.Exec(t, admin, `CREATE SCHEMA billing; ALTER TABLE stripe_webhook_events SET SCHEMA billing`)
	role := pgtest.NewRole(t, admin)
	pgtest.Exec(t, admin, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO `+role)
	wantUnready(t, newMirror(t, pgtest.ConnectAs(t, url+"&search_path=billing,public", role)), "the role "+role+" may not use the schema billing")
}

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
	if err := pgtest.Receive(t, "the probe gives up", probed); err == nil || !strings.Contains(err.Error(), "a trial of a delivery is in progress") {
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
	wantUnready(t, newMirror(t, pgtest.Connect(t, url)), "if the tables of the schema billing are this receiver's, add search_path to the database's URL")
	wantProcessed(t, newMirror(t, pgtest.Connect(t, url+"&search_path=billing")))
}

// What the migrations' records do not show: a table that is gone, a column that the role may not write.
func TestReadyBehindTheMigrations(t *testing.T) {
	t.Parallel()
	for statement, reason := range map[string]string{
		`ALTER TABLE stripe_webhook_failures RENAME TO elsewhere`:                          "is not there: stripe_webhook_failures",
		`ALTER TABLE subscription_items RENAME TO elsewhere`:                               "is not there: subscription_items",
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
