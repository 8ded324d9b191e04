package tests

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// psqlProgram returns the path of psql, which downloaded versions lack.
func psqlProgram(t *testing.T) string {
	t.Helper()
	if program, err := exec.LookPath("psql"); err == nil {
		return program
	}
	bin, err := pglocal.FindBinaries("")
	if err != nil {
		t.Skip("psql is not installed")
	}
	return filepath.Join(bin, "psql")
}

// psql runs psql and returns its output.
func psql(t *testing.T, databaseURL string, args ...string) string {
	t.Helper()
	program := psqlProgram(t)
	out, err := exec.Command(program, append([]string{"-X", "-q", databaseURL}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("psql %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// deploy/roles.sql works as its comment says: the owner migrates, app serves, operator prunes, and none of them may do more.
func TestRoles(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true})
	script := func() string { return psql(t, cluster.URL("postgres"), "-f", "../deploy/roles.sql") }
	as := func(role string) string {
		u, err := url.Parse(cluster.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.User(role)
		return u.String()
	}
	if out := script(); !strings.Contains(out, "migrate as stripeonce_owner") {
		t.Errorf("before the migrations it says %q", out)
	}
	if r := run(t, environ("DATABASE_URL="+as("stripeonce_owner")), "", "migrate"); r.code != 0 {
		t.Fatal(r)
	}
	if r := run(t, environ("DATABASE_URL="+as("stripeonce_app")), "", "migrate", "rollback"); r.code == 0 {
		t.Error("app may undo a migration")
	}
	script()
	script() // again, which changes nothing
	if version := pgtest.Scan[int](t, pgtest.Connect(t, cluster.URL("postgres")), `SELECT current_setting('server_version_num')::int`); version < 150000 {
		pgtest.Exec(t, pgtest.Connect(t, cluster.URL("postgres")), `REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
	}

	s := serve(t, environ("DATABASE_URL="+as("stripeonce_app")))
	if status, body := s.get(t, "/readyz"); status != 200 {
		t.Errorf("as app it is not ready: %s", body)
	}
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, webhooks.OutcomeProcessed)
	s.expect(t, subscriptionEvent("evt_2", 1700000100, "past_due"), 200, webhooks.OutcomeProcessed)
	s.expect(t, subscriptionEvent("evt_2", 1700000100, "past_due"), 200, webhooks.OutcomeDuplicate)
	s.expect(t, hooktest.Event("evt_3", "x.y", 1, `{}`), 200, webhooks.OutcomeIgnored)
	for _, command := range []string{"events --json", "failures --json"} {
		if r := run(t, environ("DATABASE_URL="+as("stripeonce_app")), "", strings.Fields(command)...); r.code != 0 {
			t.Errorf("%s: %s", command, r)
		}
	}
	if r := run(t, environ("DATABASE_URL="+as("stripeonce_operator")), "", "prune", "--older-than", "35d", "--json"); r.code != 0 {
		t.Errorf("prune as operator: %s", r)
	}
	expectErasing(t, cluster.URL("postgres"), as)
	for role, statements := range map[string][]string{
		"stripeonce_app": {
			"DROP TABLE subscriptions", "TRUNCATE stripe_webhook_events", "CREATE TABLE mine (id int)", "DELETE FROM subscriptions",
			"DELETE FROM stripe_webhook_failures", "UPDATE stripe_webhook_events SET event_id = 'evt_other'", "DELETE FROM stripeonce_migrations",
			"UPDATE stripe_webhook_events SET outcome = 'ignored' WHERE outcome = 'ignored'", "ALTER TABLE stripe_webhook_events DISABLE ROW LEVEL SECURITY",
		},
		"stripeonce_operator": {"DROP TABLE subscriptions", "DELETE FROM stripe_erasures", "INSERT INTO stripeonce_migrations VALUES ('1')"},
	} {
		conn, err := pgx.Connect(t.Context(), as(role))
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range statements {
			if _, err := conn.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "SQLSTATE 42501") {
				t.Errorf("%s may %s: %v", role, statement, err)
			}
		}
		for _, statement := range []string{
			"INSERT INTO stripe_webhook_runs (id, kind, arguments, started_at, counts) VALUES (current_user, 'backfill', '{}', now(), '{}')",
			"UPDATE stripe_webhook_runs SET finished_at = now()", "DELETE FROM stripe_webhook_runs WHERE id = current_user",
		} {
			if tag, err := conn.Exec(t.Context(), statement); err != nil || tag.RowsAffected() == 0 {
				t.Errorf("%s may not %s: %v", role, statement, err)
			}
		}
		if role == "stripeonce_app" {
			for _, statement := range []string{
				"DELETE FROM stripe_webhook_events WHERE outcome <> 'ignored'", "UPDATE stripe_webhook_events SET outcome = 'parked' WHERE outcome <> 'ignored'",
			} {
				if tag, err := conn.Exec(t.Context(), statement); err != nil || tag.RowsAffected() != 0 {
					t.Errorf("%s: %d rows, %v: want none", statement, tag.RowsAffected(), err)
				}
			}
			if tag, err := conn.Exec(t.Context(), "DELETE FROM stripe_webhook_events"); err != nil || tag.RowsAffected() != 1 {
				t.Errorf("of the ledger, app may delete %d rows, %v: want that of the ignored event", tag.RowsAffected(), err)
			}
		}
		_ = conn.Close(t.Context())
	}
	// app may dismiss a failed event, also one that was ignored before, and no other.
	pgtest.Exec(t, pgtest.Connect(t, cluster.URL("postgres")), `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error) VALUES ('evt_1', 'a.b', 'x'), ('evt_4', 'a.b', 'x'), ('evt_5', 'a.b', 'x')`)
	s.expect(t, hooktest.Event("evt_5", "x.y", 1, `{}`), 200, webhooks.OutcomeIgnored)
	for id, code := range map[string]int{"evt_4": 0, "evt_5": 0, "evt_1": 2} {
		if r := run(t, environ("DATABASE_URL="+as("stripeonce_app")), "", "failures", "dismiss", id, "--reason", "x"); r.code != code {
			t.Errorf("as app, dismiss %s: %s", id, r)
		}
	}
}

// expectErasing expects that operator may erase a customer, and app may not.
func expectErasing(t *testing.T, superURL string, as func(role string) string) {
	t.Helper()
	pgtest.Exec(t, pgtest.Connect(t, superURL), noWait)
	pgtest.Exec(t, pgtest.Connect(t, superURL), `INSERT INTO subscriptions (id, customer_id, status, cancel_at_period_end, metadata, livemode, object) VALUES ('sub_gone', 'cus_gone', 'active', FALSE, '{}', FALSE, '{}')`)
	erase := []string{"erase", "--customer", "cus_gone", "--yes", "--reason", "a test"}
	if r := run(t, environ("DATABASE_URL="+as("stripeonce_app")), "", erase...); r.code != 1 || !strings.Contains(r.stderr, "(deploy/roles.sql grants it to the operator)") {
		t.Errorf("erase as app: %s", r)
	}
	if r := run(t, environ("DATABASE_URL="+as("stripeonce_operator")), "", erase...); r.code != 0 {
		t.Errorf("erase as operator: %s", r)
	}
}

// roles.sql and row_level_security.sql work together without a superuser, in a separate schema: the narrow policies on the
// ledger stay, and no rows are hidden from the roles that need them.
func TestRolesWithoutASuperuser(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true})
	super := pgtest.Connect(t, cluster.URL("postgres"))
	pgtest.Exec(t, super, `CREATE ROLE admin LOGIN CREATEROLE CREATEDB`)
	pgtest.Exec(t, super, `CREATE DATABASE app OWNER admin`)
	as := func(role string) string { return strings.Replace(cluster.URL("app"), "stripeonce@", role+"@", 1) }
	const path = "&search_path=billing"
	roles := func() string { return psql(t, as("admin"), "-v", "schema=billing", "-f", "../deploy/roles.sql") }
	if out := roles(); !strings.Contains(out, "the schema billing has no tables") {
		t.Errorf("before the migrations it says %q", out)
	}
	if r := run(t, environ("DATABASE_URL="+as("stripeonce_owner")+path), "", "migrate"); r.code != 0 {
		t.Fatal(r)
	}
	roles()
	roles()
	psql(t, as("stripeonce_owner"), "-v", "ON_ERROR_STOP=1", "-c", "SET search_path = billing; SET stripeonce.role = 'stripeonce_app, stripeonce_operator'",
		"-f", "../deploy/row_level_security.sql")
	s := serve(t, environ("DATABASE_URL="+as("stripeonce_app")+path))
	if status, body := s.get(t, "/readyz"); status != 200 {
		t.Fatalf("as app it is not ready: %s", body)
	}
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, webhooks.OutcomeProcessed)
	app, err := pgx.Connect(t.Context(), as("stripeonce_app")+path)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close(t.Context())
	if tag, err := app.Exec(t.Context(), `DELETE FROM stripe_webhook_events`); err != nil || tag.RowsAffected() != 0 {
		t.Errorf("app deletes %d rows of the ledger, %v", tag.RowsAffected(), err)
	}
	if r := run(t, environ("DATABASE_URL="+as("stripeonce_operator")+path), "", "prune", "--older-than", "35d", "--json"); r.code != 0 {
		t.Errorf("prune as operator: %s", r)
	}
	pgtest.Exec(t, super, `CREATE ROLE reader LOGIN`)
	grants := pgtest.Connect(t, cluster.URL("app"))
	pgtest.Exec(t, grants, `GRANT USAGE ON SCHEMA billing TO reader; GRANT SELECT, DELETE, UPDATE ON ALL TABLES IN SCHEMA billing TO reader`)
	for _, command := range []string{"events", "failures", "prune --older-than 35d"} {
		r := run(t, environ("DATABASE_URL="+as("reader")+path), "", strings.Fields(command)...)
		if r.code == 0 || !strings.Contains(r.stderr, "row level security hides stripeonce's tables") {
			t.Errorf("%s, with every row hidden by row level security: %s", command, r)
		}
	}
}

// A secret can be read from a file, and its content is never shown.
func TestSecretFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("new=whsec_another\nold="+hooktest.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t), "STRIPE_WEBHOOK_SECRET=", "STRIPE_WEBHOOK_SECRET_FILE="+file))
	s.expect(t, subscriptionEvent("evt_1", 1700000000, "active"), 200, webhooks.OutcomeProcessed)
	_, metrics := s.get(t, "/metrics")
	for _, want := range []string{`stripeonce_secret_matches_total{secret="new"} 0`, `stripeonce_secret_matches_total{secret="old"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%s is not in the metrics", want)
		}
	}
	if all := metrics + s.text(); strings.Contains(all, hooktest.Secret) || strings.Contains(all, "whsec_another") {
		t.Error("a secret is shown")
	}
}
