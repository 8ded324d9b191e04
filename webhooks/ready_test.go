package webhooks_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
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
				wantUnready(t, newMirror(t, pgtest.Connect(t, inMode(url, mode))), "its encoding is "+encoding+", which cannot store all of Stripe's text: create the database with ENCODING 'UTF8'")
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
			wantUnready(t, newMirror(t, pgtest.Connect(t, url+"&client_encoding=LATIN1")), "add client_encoding=UTF8 to the database URL")
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
			if strings.HasPrefix(name, "an exclusion") {
				pgtest.OnPlainTables(t, "PostgreSQL has no exclusion constraints on partitioned tables")
			}
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
	wantUnready(t, newMirror(t, pgtest.Connect(t, url+"&search_path=public,stripeonce")), "subscriptions of the schema public: put the schema of stripeonce's tables first")
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
