package tests

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// description has what must not change when a table moves into partitions, but for the partitions themselves: columns, defaults, checks,
// indexes, privileges, row level security, policies, and views with their options and rows.
const description = `
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
	SELECT concat_ws(' ', 'column', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull,
		pg_get_expr(adbin, adrelid), attstorage, to_jsonb(a) ->> 'attcompression', attacl) AS line
	FROM pg_attribute AS a LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
	WHERE attrelid IN ('stripe_webhook_events'::regclass, 'stripe_objects'::regclass) AND attnum > 0
	UNION ALL
	SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
	WHERE conrelid IN ('stripe_webhook_events'::regclass, 'stripe_objects'::regclass)
	UNION ALL
	SELECT replace(indexdef, ' ON ONLY ', ' ON ') FROM pg_indexes WHERE tablename IN ('stripe_webhook_events', 'stripe_objects')
	UNION ALL
	SELECT concat_ws(' ', 'table', oid::regclass, relowner::regrole, (SELECT array_agg(a ORDER BY a::text) FROM unnest(relacl) AS a), relrowsecurity, relforcerowsecurity)
	FROM pg_class WHERE oid IN ('stripe_webhook_events'::regclass, 'stripe_objects'::regclass)
	UNION ALL
	SELECT concat_ws(' ', 'policy', policyname, permissive, roles, cmd, qual, with_check) FROM pg_policies
	UNION ALL
	SELECT concat_ws(' ', 'view', oid::regclass, relowner::regrole, relacl, reloptions, pg_get_viewdef(oid)) FROM pg_class
	WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace
	UNION ALL
	SELECT concat_ws(' ', 'publication', pubname, tablename) FROM pg_publication_tables WHERE tablename !~ '^stripe_(webhook_events|objects)_'
	UNION ALL
	SELECT concat_ws(' ', 'rows', (SELECT count(*) FROM stripe_customers), (SELECT count(*) FROM mine), (SELECT count(*) FROM stripe_webhook_events))
) AS described`

// step runs a call of deploy/partitions.sql as its comment says.
func step(t *testing.T, databaseURL, call string) string {
	t.Helper()
	return psql(t, databaseURL, "-v", "ON_ERROR_STOP=1", "-A", "-t", "-f", "../deploy/partitions.sql", "-c", call)
}

// changed changes rows of a table while it is copied: an insert, updates, deletions, a new key, and a row that comes and goes.
var changed = map[string]string{
	"stripe_webhook_events": `
		UPDATE stripe_webhook_events SET outcome = 'parked' WHERE event_id = 'evt_7'; UPDATE stripe_webhook_events SET object_id = NULL WHERE event_id = 'evt_8';
		DELETE FROM stripe_webhook_events WHERE event_id IN ('evt_9', 'evt_10'); INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_10', 'again', 'stale', TRUE);
		UPDATE stripe_webhook_events SET event_id = 'evt_renamed' WHERE event_id = 'evt_11';
		INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_new', 'a.b', 'ignored', FALSE), ('evt_gone', 'a.b', 'ignored', FALSE);
		DELETE FROM stripe_webhook_events WHERE event_id = 'evt_gone'`,
	"stripe_objects": `
		UPDATE stripe_objects SET object = '{"name": "new"}', revision = revision + 1 WHERE id = 'cus_7'; DELETE FROM stripe_objects WHERE id = 'cus_8';
		UPDATE stripe_objects SET account_id = 'acct_1' WHERE id = 'cus_9'; INSERT INTO stripe_objects (livemode, object_type, id, object) VALUES (TRUE, 'customer', 'cus_7', '{}')`,
}

// deploy/partitions.sql works as its comment says, as the owner and as a superuser: nothing but the partitions changes, whatever is
// written in between, and the way back is open until finish.
func TestPartitions(t *testing.T) {
	t.Parallel()
	for table, id := range map[string]string{"stripe_webhook_events": "event_id", "stripe_objects": "id"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			super, admin := partitionable(t)
			url := super
			if table == "stripe_objects" { // stripe_webhook_events: as the superuser, who becomes the owner
				url = as(super, "stripeonce_owner")
			}
			rows := func(of string) string {
				return pgtest.Scan[string](t, admin, fmt.Sprintf(`SELECT md5(string_agg(r::text, E'\n' ORDER BY r::text)) || ' ' || count(*) FROM %s AS r`, of))
			}
			var described string
			same := func(after string) {
				t.Helper()
				if got := pgtest.Scan[string](t, admin, description); got != described {
					t.Errorf("after %s it is\n%s\nwant\n%s", after, got, described)
				}
				if n := step(t, url, fmt.Sprintf(`SELECT pg_temp.stripeonce_differences('%s')`, table)); strings.TrimSpace(n) != "0" {
					t.Errorf("after %s %s rows differ", after, n)
				}
			}
			call := func(name, arguments string) {
				t.Helper()
				t.Log(step(t, url, fmt.Sprintf("CALL pg_temp.stripeonce_%s('%s'%s)", name, table, arguments)))
			}
			call("prepare", ", 5")
			call("copy", ", 7")
			pgtest.Exec(t, admin, changed[table])
			described = pgtest.Scan[string](t, admin, description)
			want := rows(table)
			same("copy")
			call("swap", "")
			same("swap")
			if got := rows(table); got != want {
				t.Errorf("after swap the rows are %s, want %s", got, want)
			}
			pgtest.Exec(t, admin, fmt.Sprintf(`DELETE FROM %s WHERE %s LIKE '%%_2%%'`, table, id))
			described = pgtest.Scan[string](t, admin, description)
			same("what was deleted")
			want = rows(table)
			call("back", "")
			if got := rows(table); got != want {
				t.Errorf("after back the rows are %s, want %s", got, want)
			}
			call("prepare", ", 3")
			call("back", "")
			call("prepare", ", 3")
			call("copy", "")
			call("swap", "")
			same("a second swap")
			call("finish", "")
			got := pgtest.Scan[string](t, admin, `SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind IN ('r', 'p') AND relname LIKE '`+table+`%'`)
			if want := fmt.Sprintf("%s %[1]s_p00 %[1]s_p01 %[1]s_p02", table); got != want {
				t.Errorf("after finish there are %s, want %s", got, want)
			}
			expectServing(t, super, admin)
		})
	}
}

// as returns a database's URL for a role.
func as(databaseURL, role string) string {
	return strings.Replace(databaseURL, "stripeonce@", role+"@", 1)
}

// partitionable returns a database with rows, with the roles of deploy/roles.sql, with Supabase's default privileges, and with a view and a
// publication of the host's.
func partitionable(t *testing.T) (databaseURL string, admin *pgxpool.Pool) {
	t.Helper()
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true})
	databaseURL = cluster.URL("postgres")
	admin = pgtest.Connect(t, databaseURL)
	psql(t, databaseURL, "-f", "../deploy/roles.sql")
	pgtest.Exec(t, admin, `CREATE ROLE anon; CREATE ROLE authenticated;
		ALTER DEFAULT PRIVILEGES FOR ROLE stripeonce_owner IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated`)
	if r := run(t, environ("DATABASE_URL="+as(databaseURL, "stripeonce_owner")), "", "migrate"); r.code != 0 {
		t.Fatal(r)
	}
	psql(t, databaseURL, "-f", "../deploy/roles.sql")
	pgtest.Exec(t, admin, `
		INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, object_id) SELECT 'evt_' || n, 'a.b', 'processed', FALSE, 'obj_' || n % 9 FROM generate_series(1, 100) AS n;
		INSERT INTO stripe_objects (livemode, object_type, id, customer_id, object) SELECT FALSE, 'customer', 'cus_' || n, 'cus_' || n, '{"name": "x"}' FROM generate_series(1, 100) AS n;
		SET ROLE stripeonce_owner;
		CREATE VIEW mine AS SELECT e.event_id, o.id FROM stripe_webhook_events AS e JOIN stripe_objects AS o ON o.id = 'cus_' || split_part(e.event_id, '_', 2);
		ALTER VIEW mine SET (security_barrier = true);
		GRANT SELECT ON mine TO PUBLIC; GRANT SELECT, UPDATE (status) ON stripe_objects TO stripeonce_operator WITH GRANT OPTION; GRANT SELECT ON stripe_objects TO PUBLIC;
		ALTER TABLE stripe_objects FORCE ROW LEVEL SECURITY;
		ALTER TABLE stripe_objects ENABLE ROW LEVEL SECURITY;
		CREATE POLICY everything ON stripe_objects USING (TRUE) WITH CHECK (id <> '');
		CREATE POLICY restricted ON stripe_objects AS RESTRICTIVE FOR SELECT TO anon USING (FALSE);
		RESET ROLE;
		GRANT CREATE ON DATABASE postgres TO stripeonce_owner;
		SET ROLE stripeonce_owner;
		CREATE PUBLICATION analytics FOR TABLE stripe_webhook_events, stripe_objects, subscriptions WITH (publish_via_partition_root = true);
		RESET ROLE`)
	return databaseURL, admin
}

// expectServing expects that the roles may still do what they may, and no more, on partitioned tables too.
func expectServing(t *testing.T, databaseURL string, admin *pgxpool.Pool) {
	t.Helper()
	s := serve(t, environ("DATABASE_URL="+as(databaseURL, "stripeonce_app")))
	if status, body := s.get(t, "/readyz"); status != 200 {
		t.Errorf("as app it is not ready: %s", body)
	}
	s.expect(t, subscriptionEvent("evt_after", 1700000000, "active"), 200, webhooks.OutcomeProcessed)
	s.expect(t, subscriptionEvent("evt_after", 1700000000, "active"), 200, webhooks.OutcomeDuplicate)
	if text := s.text(); strings.Contains(text, "have privileges on stripeonce's tables") {
		t.Errorf("the log says\n%s", text)
	}
	app := pgtest.Connect(t, as(databaseURL, "stripeonce_app"))
	for statement, code := range map[string]string{
		"DELETE FROM stripe_webhook_events WHERE outcome <> 'ignored'": "", "UPDATE stripe_webhook_events SET event_id = 'evt_other'": "42501",
	} {
		tag, err := app.Exec(t.Context(), statement)
		if fault.Code(err) != code || tag.RowsAffected() != 0 {
			t.Errorf("app may %s: %d rows, %v", statement, tag.RowsAffected(), err)
		}
	}
	if r := run(t, environ("DATABASE_URL="+as(databaseURL, "stripeonce_operator")), "", "prune", "--older-than", "35d", "--json"); r.code != 0 {
		t.Errorf("prune as operator: %s", r)
	}
	pgtest.Exec(t, admin, `DELETE FROM stripeonce_migrations`)
	if r := run(t, environ("DATABASE_URL="+as(databaseURL, "stripeonce_owner")), "", "migrate", "--adopt"); r.code != 0 {
		t.Errorf("migrate --adopt: %s", r)
	}
	// What somebody grants on partitions is noticed, and the script for row level security covers them.
	pgtest.Exec(t, admin, `GRANT ALL ON ALL TABLES IN SCHEMA public TO anon`)
	const open = `SELECT string_agg(relname, ' ') FROM pg_class WHERE relname ~ '_p\d\d$' AND relkind = 'r' AND (NOT relrowsecurity OR has_table_privilege('anon', oid, 'SELECT'))`
	exposed := pgtest.Scan[string](t, admin, open)
	again := serve(t, environ("DATABASE_URL="+as(databaseURL, "stripeonce_app")))
	again.expect(t, subscriptionEvent("evt_again", 1700000001, "past_due"), 200, webhooks.OutcomeProcessed)
	if text := again.text(); !strings.Contains(text, "have privileges on stripeonce's tables") {
		t.Errorf("%s are exposed, and the log says\n%s", exposed, text)
	}
	psql(t, as(databaseURL, "stripeonce_owner"), "-v", "ON_ERROR_STOP=1", "-f", "../deploy/row_level_security.sql")
	if got := pgtest.Scan[*string](t, admin, open); got != nil {
		t.Errorf("the partitions %s are open", *got)
	}
}

// What the script does not carry over stops it before anything is changed, and is named.
func TestPartitionsRefuse(t *testing.T) {
	t.Parallel()
	url := pgtest.NewURL(t)
	pool := pgtest.Connect(t, url)
	prepare := func(table string, arguments string) string {
		out, err := exec.Command(psqlProgram(t), "-X", "-q", url, "-f", "../deploy/partitions.sql", "-c", fmt.Sprintf("CALL pg_temp.stripeonce_prepare('%s', %s)", table, arguments)).CombinedOutput()
		if err == nil {
			t.Errorf("prepare %s, %s succeeds", table, arguments)
		}
		return string(out)
	}
	for setup, c := range map[string]struct{ undo, says string }{
		`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER mine AFTER INSERT ON stripe_webhook_events FOR EACH ROW EXECUTE FUNCTION f()`: {`DROP FUNCTION f() CASCADE`, "the trigger mine"},
		`CREATE TABLE host (event_id varchar(255) COLLATE "C" REFERENCES stripe_webhook_events)`:                                                                                        {`DROP TABLE host`, "the foreign key host_event_id_fkey of host"},
		`CREATE MATERIALIZED VIEW m AS SELECT event_id FROM stripe_webhook_events`:                                                                                                      {`DROP MATERIALIZED VIEW m`, "what depends on it in m"},
		`CREATE RULE r AS ON DELETE TO stripe_webhook_events DO INSTEAD NOTHING`:                                                                                                        {`DROP RULE r ON stripe_webhook_events`, "the rule r"},
		`ALTER TABLE stripe_webhook_events ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY`:                                                                                            {`ALTER TABLE stripe_webhook_events DROP COLUMN n`, "the generated or identity column n"},
		`ALTER TABLE stripe_webhook_events REPLICA IDENTITY FULL`:                                                                                                                       {`ALTER TABLE stripe_webhook_events REPLICA IDENTITY DEFAULT`, "a replica identity"},
		`CREATE PUBLICATION p FOR ALL TABLES`:                                                                                                                                           {`DROP PUBLICATION p`, "the publication p, which would have both"},
		`CREATE PUBLICATION p FOR TABLE stripe_webhook_events`:                                                                                                                          {`DROP PUBLICATION p`, "the publication p without publish_via_partition_root"},
		`CREATE UNIQUE INDEX one ON stripe_webhook_events (object_id)`:                                                                                                                  {`DROP INDEX one`, "partition"}, // PostgreSQL's own error
		`SELECT`: {`SELECT`, "use 2 to 100"},
	} {
		pgtest.Exec(t, pool, setup)
		partitions := "16"
		if setup == `SELECT` {
			partitions = "1"
		}
		if out := prepare("stripe_webhook_events", partitions); !strings.Contains(out, c.says) {
			t.Errorf("after %s it says %q, want %q", setup, out, c.says)
		}
		pgtest.Exec(t, pool, c.undo)
	}
	if out := prepare("subscriptions", "16"); !strings.Contains(out, "name stripe_webhook_events or stripe_objects") {
		t.Errorf("of another table it says %q", out)
	}
	mover, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mover.Exec(t.Context(), `SELECT pg_advisory_lock('pg_class'::regclass::integer, hashtext('public.stripe_webhook_events'))`); err != nil {
		t.Fatal(err)
	}
	if out := prepare("stripe_webhook_events", "16"); !strings.Contains(out, "another session is moving stripe_webhook_events") {
		t.Errorf("beside another session it says %q", out)
	}
	if err := mover.Hijack().Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{"copy", "swap", "back", "finish"} {
		out, err := exec.Command(psqlProgram(t), "-X", "-q", url, "-f", "../deploy/partitions.sql", "-c", "CALL pg_temp.stripeonce_"+call+"('stripe_webhook_events')").CombinedOutput()
		if err == nil || !strings.Contains(string(out), call+" is not the next step") {
			t.Errorf("out of turn, %s says %s", call, out)
		}
	}
	got := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM pg_class WHERE relname ~ '^stripe_.*_(partitioned|changes|copy|p\d\d)$'`)
	if got != 0 {
		t.Errorf("%d objects are left", got)
	}
}
