package tests

import (
	"os"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// rights selects the privileges of Supabase's public roles on tables of the schema public.
const rights = `SELECT coalesce(string_agg(DISTINCT grantee || ' ' || privilege_type || ' ' || table_name, ', '), '')
	FROM information_schema.role_table_grants WHERE table_schema = 'public' AND grantee IN ('anon', 'authenticated')`

// supabase starts a cluster with the roles of a Supabase project, whose public roles have all privileges on new tables.
func supabase(t *testing.T) *pglocal.Cluster {
	t.Helper()
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true})
	pgtest.Exec(t, pgtest.Connect(t, cluster.URL("postgres")), `
		CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN; CREATE ROLE service_role NOLOGIN BYPASSRLS;
		CREATE ROLE authenticator LOGIN NOINHERIT; GRANT anon, authenticated, service_role TO authenticator;
		CREATE ROLE supabase_postgres LOGIN CREATEDB CREATEROLE BYPASSRLS;
		GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role; GRANT ALL ON SCHEMA public TO supabase_postgres;
		ALTER DEFAULT PRIVILEGES FOR ROLE supabase_postgres IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role`)
	return cluster
}

// stripeonce's tables are not public: the migrations revoke Supabase's grants, the receiver warns of later grants, and the
// opt-in script closes the tables whatever is granted.
func TestSupabase(t *testing.T) {
	t.Parallel()
	cluster := supabase(t)
	admin := pgtest.Connect(t, cluster.URL("postgres"))
	url := strings.Replace(cluster.URL("postgres"), "stripeonce@", "supabase_postgres@", 1)
	if r := run(t, environ("DATABASE_URL="+url), "", "migrate"); r.code != 0 {
		t.Fatal(r)
	}
	if got := pgtest.Scan[string](t, admin, rights); got != "" {
		t.Errorf("after the migrations there are the rights %s", got)
	}
	s := serve(t, environ("DATABASE_URL="+url))
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, webhooks.OutcomeProcessed)
	if strings.Contains(s.text(), "anon and authenticated") {
		t.Errorf("the log says\n%s", s.text())
	}
	pgtest.Exec(t, admin, `GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated`)
	exposed := serve(t, environ("DATABASE_URL="+url))
	exposed.expect(t, subscriptionEvent("evt_2", 1700000100, "past_due"), 200, webhooks.OutcomeProcessed)
	if text := exposed.text(); !strings.Contains(text, "anyone with the project's public key") || !strings.Contains(text, "stripe_webhook_events, stripe_webhook_failures, stripeonce_migrations, subscription_items, subscriptions") {
		t.Errorf("the log says\n%s", text)
	}
	psql(t, url, "-v", "ON_ERROR_STOP=1", "-f", "../deploy/row_level_security.sql")
	psql(t, url, "-f", "../deploy/row_level_security.sql")
	if got := pgtest.Scan[string](t, admin, rights); got != "" {
		t.Errorf("after the script there are the rights %s", got)
	}
	pgtest.Exec(t, admin, `GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated`)
	closed := serve(t, environ("DATABASE_URL="+url))
	closed.expect(t, subscriptionEvent("evt_3", 1700000200, "active"), 200, webhooks.OutcomeProcessed)
	if strings.Contains(closed.text(), "anon and authenticated") {
		t.Errorf("the log says\n%s", closed.text())
	}
	public := strings.Replace(cluster.URL("postgres"), "stripeonce@", "authenticator@", 1)
	tables := pgtest.Scan[[]string](t, admin, `SELECT array_agg(tablename::text) FROM pg_tables WHERE schemaname = 'public'`)
	for _, table := range tables {
		for _, role := range []string{"anon", "authenticated"} {
			query := `SET ROLE ` + role + `; WITH gone AS (DELETE FROM ` + table + ` RETURNING 1) SELECT count(*) FROM gone`
			if got := psql(t, public, "-At", "-c", query); strings.TrimSpace(got) != "0" {
				t.Errorf("%s deletes %s rows of %s", role, got, table)
			}
		}
	}
	text, err := os.ReadFile("../deploy/row_level_security.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if !strings.Contains(string(text), "'"+table+"'") {
			t.Errorf("deploy/row_level_security.sql leaves out %s", table)
		}
	}
}

// With row level security, a role that does not own the tables works if the script names it. Otherwise Ready names the
// missing policy.
func TestRowLevelSecurityScript(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	admin := pgtest.Connect(t, databaseURL)
	role := pgtest.NewRole(t, admin)
	pgtest.Exec(t, admin, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO `+role)
	psql(t, databaseURL, "-f", "../deploy/row_level_security.sql")
	as := environ("DATABASE_URL=" + strings.Replace(databaseURL, "stripeonce@", role+"@", 1))
	s := serve(t, as)
	if status, body := s.get(t, "/readyz"); status != 503 || !strings.Contains(body, "row level security hides stripeonce's tables from the database role: add a policy for the role, as deploy/row_level_security.sql does: no policy allows") {
		t.Errorf("without a policy: %d %s", status, body)
	}
	psql(t, databaseURL, "-c", "SET stripeonce.role = '"+role+"'", "-f", "../deploy/row_level_security.sql")
	if status, body := s.get(t, "/readyz"); status != 200 {
		t.Errorf("with a policy: %s", body)
	}
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, webhooks.OutcomeProcessed)
}
