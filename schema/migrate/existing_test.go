package migrate_test

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/dburl"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema"
	"github.com/pook/stripeonce/schema/migrate"
)

// relations selects the names of all relations in the schema public.
const relations = `SELECT coalesce(string_agg(relname, ' ' ORDER BY relname), '') FROM pg_class WHERE relnamespace = 'public'::regnamespace`

func wantApplied(t *testing.T, databaseURL string) {
	t.Helper()
	list, err := migrate.List(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if !m.Applied {
			t.Errorf("%s is not applied", m.Name)
		}
	}
}

// Any existing object with the name of one of stripeonce's stops Up before its first statement.
func TestUpWhereANameIsTaken(t *testing.T) {
	t.Parallel()
	for statement, says := range map[string]string{
		`CREATE TABLE subscriptions (mine text)`:                                      "another table subscriptions",
		`CREATE TABLE subscriptions (id text) PARTITION BY HASH (id)`:                 "another table subscriptions",
		`CREATE VIEW stripe_webhook_events AS SELECT 1`:                               "another view stripe_webhook_events",
		`CREATE MATERIALIZED VIEW subscription_items AS SELECT 1`:                     "another materialized view subscription_items",
		`CREATE SEQUENCE stripe_webhook_failures`:                                     "another sequence stripe_webhook_failures",
		`CREATE TYPE subscriptions AS ENUM ('free')`:                                  "another type subscriptions",
		`CREATE DOMAIN subscriptions AS text`:                                         "another type subscriptions",
		`CREATE TYPE subscriptions AS (free boolean)`:                                 "another type subscriptions",
		`CREATE TABLE s (a int); CREATE INDEX subscriptions_pkey ON s (a)`:            "another index subscriptions_pkey",
		`CREATE TABLE s (c int CONSTRAINT subscription_items_pkey UNIQUE)`:            "another index subscription_items_pkey",
		`CREATE TABLE subscription_items (a int); CREATE TABLE subscriptions (a int)`: "another table subscriptions, another table subscription_items",
	} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			databaseURL := pgtest.NewEmptyURL(t)
			pool := pgtest.Connect(t, databaseURL)
			pgtest.Exec(t, pool, statement)
			before := pgtest.Scan[string](t, pool, relations)
			var log bytes.Buffer
			err := migrate.Up(t.Context(), databaseURL, &log)
			if !errors.Is(err, migrate.ErrNameTaken) || !strings.Contains(err.Error(), says+".") || !strings.Contains(err.Error(), "search_path=stripeonce") {
				t.Errorf("Up gave %v, want %q", err, says)
			}
			if err := migrate.Adopt(t.Context(), databaseURL, &log); !errors.Is(err, migrate.ErrNameTaken) {
				t.Errorf("Adopt gave %v", err)
			}
			if after := pgtest.Scan[string](t, pool, relations); after != before || log.Len() > 0 {
				t.Errorf("there was %s and is %s; the log says %s", before, after, log.String())
			}
			up(t, databaseURL+"&search_path=stripeonce")
			wantApplied(t, databaseURL+"&search_path=stripeonce")
		})
	}
}

// stripeonce's tables without a record of their migrations are adopted, all or some of them.
func TestAdopt(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"no table of migrations":    `DROP TABLE stripeonce_migrations`,
		"no rows":                   `DELETE FROM stripeonce_migrations`,
		"one is not recorded":       `DELETE FROM stripeonce_migrations WHERE version LIKE '%2'`,
		"the newest is not applied": `DELETE FROM stripeonce_migrations; DROP TABLE subscription_items`,
		"an index of the host's": `DELETE FROM stripeonce_migrations; CREATE INDEX mine ON subscriptions (status);
			ALTER TABLE stripe_webhook_events ADD COLUMN note text, ADD CONSTRAINT mine CHECK (note <> ''); ALTER TABLE subscriptions SET (fillfactor = 90)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databaseURL := pgtest.NewURL(t)
			pool := pgtest.Connect(t, databaseURL)
			pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_1', 'a.b', 'processed', false)`)
			pgtest.Exec(t, pool, statement)
			before := pgtest.Scan[string](t, pool, relations)
			err := migrate.Up(t.Context(), databaseURL, io.Discard)
			if !errors.Is(err, migrate.ErrNotRecorded) || !strings.Contains(err.Error(), "stripeonce migrate --adopt") {
				t.Errorf("Up gave %v", err)
			}
			if after := pgtest.Scan[string](t, pool, relations); after != before {
				t.Errorf("there was %s and is %s", before, after)
			}
			if err := migrate.Adopt(t.Context(), databaseURL, io.Discard); err != nil {
				t.Fatal(err)
			}
			wantApplied(t, databaseURL)
			up(t, databaseURL)
			if n := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM stripe_webhook_events`); n != 1 {
				t.Errorf("the ledger has %d rows", n)
			}
		})
	}
}

// Adopt on a database without any of the tables is Up.
func TestAdoptNothing(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewEmptyURL(t)
	if err := migrate.Adopt(t.Context(), databaseURL, io.Discard); err != nil {
		t.Fatal(err)
	}
	wantApplied(t, databaseURL)
}

// If a schema of search_path has the tables, no second ledger is created, whatever precedes it in search_path.
func TestUpFindsTheLedger(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]string{"the first does not exist": "", "the first is empty": "CREATE SCHEMA app"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databaseURL := pgtest.NewURL(t)
			pool := pgtest.Connect(t, databaseURL)
			if prepare != "" {
				pgtest.Exec(t, pool, prepare)
			}
			pgtest.Exec(t, pool, `DROP TABLE subscription_items; DELETE FROM stripeonce_migrations WHERE version LIKE '%4'`)
			up(t, databaseURL+"&search_path=app,public")
			wantApplied(t, databaseURL+"&search_path=app,public")
			got := pgtest.Scan[string](t, pool, `SELECT string_agg(DISTINCT schemaname, ' ') FROM pg_tables WHERE tablename LIKE 'stripe%' OR tablename LIKE 'subscription%'`)
			if got != "public" {
				t.Errorf("the tables are in %s", got)
			}
		})
	}
}

// If Up cannot examine the tables, it returns the reason and never advises another schema.
func TestUpCannotFindOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statement, says string
		is              error
	}{
		"without TEMPORARY":    {`DELETE FROM stripeonce_migrations; DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$`, "requires the privilege TEMPORARY on the database", nil},
		"without the record":   {`REVOKE SELECT ON stripeonce_migrations FROM ROLE`, "may not read stripeonce_migrations of the schema public: use the role that owns it, stripeonce", nil},
		"with row security":    {`ALTER TABLE stripeonce_migrations ENABLE ROW LEVEL SECURITY`, "may not read stripeonce_migrations of the schema public", nil},
		"without the schema":   {`REVOKE USAGE ON SCHEMA public FROM PUBLIC, ROLE`, "may not use the schema public: GRANT USAGE", nil},
		"another record":       {`DROP TABLE stripeonce_migrations; CREATE TABLE stripeonce_migrations (id int)`, "another stripeonce_migrations", migrate.ErrNameTaken},
		"an unlogged ledger":   {`DELETE FROM stripeonce_migrations; ALTER TABLE stripe_webhook_events SET UNLOGGED`, "missing is table stripe_webhook_events", migrate.ErrNotRecorded},
		"a column of the host": {`DELETE FROM stripeonce_migrations; ALTER TABLE subscriptions DROP COLUMN object`, "missing is column subscriptions.object jsonb", migrate.ErrNotRecorded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databaseURL := pgtest.NewURL(t)
			pool := pgtest.Connect(t, databaseURL)
			role := pgtest.NewRole(t, pool)
			pgtest.Exec(t, pool, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role)
			pgtest.Exec(t, pool, strings.ReplaceAll(c.statement, "ROLE", role))
			as := strings.Replace(databaseURL, "stripeonce@", role+"@", 1)
			for what, apply := range map[string]func() error{
				"Up":    func() error { return migrate.Up(t.Context(), as, io.Discard) },
				"Adopt": func() error { return migrate.Adopt(t.Context(), as, io.Discard) },
			} {
				err := apply()
				if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("%s gave %v, want %q", what, err, c.says)
				}
				if err != nil && !errors.Is(err, migrate.ErrNameTaken) && strings.Contains(err.Error(), "a schema of their own") {
					t.Errorf("%s advises another schema: %v", what, err)
				}
			}
		})
	}
}

// Adopting revokes Supabase's grants on the tables and on stripeonce_migrations.
func TestAdoptRevokes(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true})
	databaseURL := cluster.URL("postgres")
	pool := pgtest.Connect(t, databaseURL)
	pgtest.Exec(t, pool, `CREATE ROLE anon; CREATE ROLE authenticated`)
	up(t, databaseURL)
	pgtest.Exec(t, pool, `DROP TABLE stripeonce_migrations; GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated`)
	pgtest.Exec(t, pool, `ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon`)
	if err := migrate.Adopt(t.Context(), databaseURL, io.Discard); err != nil {
		t.Fatal(err)
	}
	left := pgtest.Scan[string](t, pool, `SELECT coalesce(string_agg(DISTINCT grantee || ' on ' || table_name, ', '), '')
		FROM information_schema.role_table_grants WHERE grantee IN ('anon', 'authenticated')`)
	if left != "" {
		t.Errorf("privileges are left: %s", left)
	}
}

// A table that is not as the migration creates it is not adopted, and the error names the difference.
func TestAdoptRefusesADifference(t *testing.T) {
	t.Parallel()
	for statement, says := range map[string]string{
		`ALTER TABLE stripe_webhook_events DROP COLUMN api_version`:                                                      "column stripe_webhook_events.api_version character varying",
		`ALTER TABLE stripe_webhook_events ALTER COLUMN outcome TYPE text`:                                               "column stripe_webhook_events.outcome character varying(16)",
		`ALTER TABLE stripe_webhook_events DROP CONSTRAINT stripe_webhook_events_outcome_check`:                          "constraint stripe_webhook_events stripe_webhook_events_outcome_check CHECK",
		`ALTER TABLE stripe_webhook_events DROP CONSTRAINT stripe_webhook_events_event_id_key`:                           "1 of the objects that 20261126000001_create_stripe_webhook_events.sql creates are missing",
		`ALTER TABLE stripe_webhook_failures ALTER COLUMN attempts DROP DEFAULT`:                                         "column stripe_webhook_failures.attempts integer not null default 1",
		`ALTER TABLE subscription_items DROP CONSTRAINT subscription_items_subscription_id_fkey`:                         "FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)",
		`DROP INDEX subscriptions_customer_id_idx; CREATE INDEX subscriptions_customer_id_idx ON subscriptions (status)`: "INDEX subscriptions_customer_id_idx ON subscriptions USING btree (customer_id)",
	} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			databaseURL := pgtest.NewURL(t)
			pool := pgtest.Connect(t, databaseURL)
			pgtest.Exec(t, pool, statement)
			pgtest.Exec(t, pool, `DELETE FROM stripeonce_migrations`)
			err := migrate.Adopt(t.Context(), databaseURL, io.Discard)
			if !errors.Is(err, migrate.ErrNotRecorded) || !strings.Contains(err.Error(), says) {
				t.Errorf("Adopt gave %v, want %q", err, says)
			}
			if n := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM stripeonce_migrations`); n != 0 {
				t.Errorf("%d migrations are recorded", n)
			}
		})
	}
}

// The tables are created in the schema of search_path, wherever that is set.
func TestUpFollowsSearchPath(t *testing.T) {
	t.Parallel()
	database := func(set string) string {
		return `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I ` + set + `', current_database()); END $$`
	}
	for name, c := range map[string]struct{ before, query, want string }{
		"in the URL":               {"", "search_path=billing", "billing"},
		"in options":               {"", "options=" + url.PathEscape("-c search_path=billing"), "billing"},
		"in options, two":          {"", "options=" + url.PathEscape("-c search_path=billing,public"), "billing"},
		"of the database":          {database("SET search_path = billing, public"), "", "billing"},
		"a quoted name":            {"", "search_path=" + url.PathEscape(`"Bil, ""ling", public`), `Bil, "ling`},
		"a name in upper case":     {"", "search_path=BILLING", "billing"},
		"the default":              {"", "", "public"},
		"the user's":               {"CREATE SCHEMA stripeonce", "", "stripeonce"},
		"the user's, not there":    {"", "search_path=" + url.PathEscape(`"$user", billing`), "billing"},
		"where public has another": {"CREATE TABLE subscriptions (mine text)", "options=" + url.PathEscape("-csearch_path=billing"), "billing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databaseURL := pgtest.NewEmptyURL(t)
			pool := pgtest.Connect(t, databaseURL)
			if c.before != "" {
				pgtest.Exec(t, pool, c.before)
			}
			ours := strings.TrimSuffix(databaseURL+"&"+c.query, "&")
			up(t, ours)
			wantApplied(t, ours)
			got := pgtest.Scan[string](t, pool, `SELECT string_agg(DISTINCT schemaname, ' ') FROM pg_tables WHERE tablename IN
				('stripe_webhook_events', 'stripe_webhook_failures', 'subscription_items', 'stripeonce_migrations')`)
			if got != c.want {
				t.Errorf("the tables are in %s, want %s", got, c.want)
			}
			serving := pgtest.Connect(t, dburl.Normalize(ours))
			if n := pgtest.Scan[int](t, serving, `SELECT count(*)::int FROM stripeonce_migrations`); n != len(schema.Migrations()) {
				t.Errorf("the same URL finds %d migrations", n)
			}
			if err := migrate.Rollback(t.Context(), ours, false, io.Discard); err != nil {
				t.Error(err)
			}
		})
	}
	err := migrate.Up(t.Context(), pgtest.NewEmptyURL(t)+"&search_path=", io.Discard)
	if err == nil || !strings.Contains(err.Error(), "names no schema") {
		t.Errorf("with an empty search_path: %v", err)
	}
}

// The log does not report a failed migration as applied.
func TestUpFails(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewEmptyURL(t)
	pool := pgtest.Connect(t, databaseURL)
	pgtest.Exec(t, pool, `CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		IF current_query() LIKE '%CREATE TABLE stripe_webhook_failures%' THEN RAISE EXCEPTION 'not this one'; END IF; END $$`)
	pgtest.Exec(t, pool, `CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refuse()`)
	var log bytes.Buffer
	if err := migrate.Up(t.Context(), databaseURL, &log); err == nil || !strings.Contains(err.Error(), "not this one") {
		t.Errorf("Up gave %v", err)
	}
	if text := log.String(); !strings.Contains(text, "Applied: 20261126000001") || !strings.Contains(text, "Applying: 20261126000002") || strings.Contains(text, "Applied: 20261126000002") {
		t.Errorf("the log says\n%s", text)
	}
	pgtest.Exec(t, pool, `DROP EVENT TRIGGER refuse`)
	up(t, databaseURL)
	wantApplied(t, databaseURL)
}

// A database whose encoding cannot hold Stripe's text is not migrated.
func TestUpRefusesAnEncoding(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		databaseURL := pgtest.NewDatabaseURL(t, "ENCODING '"+encoding+"' LOCALE 'C'")
		if err := migrate.Up(t.Context(), databaseURL, io.Discard); !errors.Is(err, migrate.ErrDatabase) || !strings.Contains(err.Error(), "its encoding is "+encoding) {
			t.Errorf("%s: %v", encoding, err)
		}
	}
}

// Up looks for the names of all objects that the migrations create.
func TestObjects(t *testing.T) {
	t.Parallel()
	pool := pgtest.Connect(t, pgtest.NewURL(t))
	var names []string
	for _, m := range schema.Migrations() {
		names = append(names, migrate.Objects(m.Name)...)
	}
	checkNames(t, pool, names)
}

func checkNames(t *testing.T, pool *pgxpool.Pool, names []string) {
	t.Helper()
	made := pgtest.Scan[[]string](t, pool, `SELECT array_agg(relname::text) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'stripeonce_migrations%'`)
	for _, name := range made {
		if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ") {
			t.Errorf("%s is created, but Up does not look for it", name)
		}
	}
	if len(made) != len(names) {
		t.Errorf("looked for: %v; created: %v", names, made)
	}
}
