package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
)

// Wrong use exits with 2 and says what to do. A failure exits with 1.
func TestWrongUse(t *testing.T) {
	t.Parallel()
	const secret = "STRIPE_WEBHOOK_SECRET=whsec_1"
	missing := filepath.Join(t.TempDir(), "missing.json")
	for _, c := range []struct {
		env    []string
		args   string
		code   int
		reason string
	}{
		{nil, "sevre", 2, `unknown command "sevre"`},
		{nil, "serve --adr x", 2, "unknown flag: --adr: did you mean --addr?"},
		{nil, "serve --zzzzzzzz x", 2, "unknown flag: --zzzzzzzz\n"},
		{nil, "reconsile", 2, "Did you mean this?\n\treconcile"},
		{nil, "events", 2, "DATABASE_URL is not set"},
		{nil, "events --outcome lost", 2, "use processed, stale, ignored or parked"},
		{nil, "events --limit 0", 2, "at least 1"},
		{nil, "events --limit x", 2, `invalid argument "x" for "--limit" flag: use a whole number`},
		{nil, "events --since 3weeks", 2, "use one such as 2026-11-24T11:00:00Z, 2026-11-24T11:00 (local), 72h or 30d"},
		{nil, "failures --limit 0", 2, "at least 1"},
		{nil, "failures evt_1 evt_2", 2, "accepts at most 1 arg"},
		{nil, "failures dismiss evt_1", 2, "--reason is missing"},
		{nil, "failures dismiss --reason x", 2, "name the events to dismiss, or a group with --group"},
		{nil, "events --object in_1 --customer cus_1", 2, "--object and --customer are mutually exclusive"},
		{nil, "replay --account acct_1", 2, "name events, or use --all-failed"},
		{nil, "replay evt_1 --type a.b", 2, "name events, or use --all-failed, or a filter"},
		{nil, "replay --outcome parked --here", 2, "use ignored; failing events need no --outcome, and parked ones are named one by one"},
		{nil, "replay --outcome ignored --all-failed", 2, "--outcome ignored and --all-failed are mutually exclusive"},
		{nil, "replay --outcome ignored --group x", 2, "--outcome ignored and --group are mutually exclusive"},
		{nil, "replay --type a.b", 2, "--to URL"},
		{[]string{"DATABASE_URL=postgres:///x?host=/nonexistent"}, "reprocess --here --since 1h --reason x --handler credit", 2,
			`no handler is named "credit": this program has no handlers of its own, so use the application's own command`},
		{nil, "version x", 2, "unknown command"},
		{nil, "replay", 2, "name events, or use --all-failed"},
		{nil, "replay evt_1 --all-failed", 2, "name events, or use --all-failed"},
		{nil, "replay evt_1 --to x --here", 2, "mutually exclusive"},
		{nil, "replay evt_1 --to x", 2, "is not a URL"},
		{[]string{"DATABASE_URL=postgres:///x?host=/nonexistent"}, "replay evt_1 --to http://127.0.0.1:1/", 2, "STRIPE_WEBHOOK_SECRET is not set"},
		{[]string{"DATABASE_URL=postgres:///x?host=/nonexistent"}, "replay evt_1 --here", 1, "connect"},
		{[]string{"DATABASE_URL=postgres:///x?host=/nonexistent"}, "reconcile --since 1h --here", 2, "STRIPE_API_KEY is not set"},
		{[]string{"DATABASE_URL=postgres:///x?host=/nonexistent"}, "reconcile --since 1h --here --kind all", 2, "use auto, snapshot or thin"},
		{[]string{"DATABASE_URL=postgres:///x?host=/nonexistent"}, "verify", 2, "STRIPE_API_KEY is not set"},
		{nil, "endpoint", 2, "STRIPE_API_KEY is not set"},
		{nil, "endpoint --create http://x/ --update", 2, "--create and --update or --url are mutually exclusive"},
		{[]string{secret, "DATABASE_URL=postgres:///x?host=/nonexistent"}, "serve --reconcile-every 1h", 2, "requires STRIPE_API_KEY: set it"},
		{nil, "serve x", 2, "unknown command"},
		{nil, "serve", 2, "STRIPE_WEBHOOK_SECRET is not set"},
		{[]string{"STRIPE_WEBHOOK_SECRET= "}, "serve --local", 2, "STRIPE_WEBHOOK_SECRET is not set"},
		{[]string{"STRIPE_WEBHOOK_SECRET=a,,b"}, "serve --local", 2, "secret 2 is empty"},
		{[]string{"STRIPE_WEBHOOK_SECRET=whsec_…"}, "serve --local", 2, "secret 1 is a placeholder"},
		{[]string{secret, "STRIPE_WEBHOOK_SECRET_FILE=/x"}, "serve --local", 2, "unset one of them"},
		{[]string{"STRIPE_WEBHOOK_SECRET_FILE=" + missing}, "serve --local", 2, "no such file"},
		{[]string{secret}, "serve", 2, "no database: set DATABASE_URL, or use --local"},
		{[]string{secret, "DATABASE_URL=postgres://h:x/"}, "serve", 2, "DATABASE_URL"},
		{[]string{secret, "DATABASE_URL=postgres:///x?host=/nonexistent"}, "serve --migrate", 1, "connect to migrate"},
		{[]string{secret, "STRIPE_MODE=sandbox"}, "serve --local", 2, `--mode (STRIPE_MODE) "sandbox": use live, test or any`},
		{[]string{secret, "STRIPE_API_KEY=pk_test_1"}, "serve --local", 2, "STRIPE_API_KEY: the key is a publishable key"},
		{[]string{secret, "STRIPE_REFETCH=often"}, "serve --local", 2, `--refetch (STRIPE_REFETCH) "often": use ambiguous, always or never`},
		{[]string{secret, "LOG_LEVEL=loud"}, "serve --local", 2, "use debug, info, warn or error"},
		{[]string{secret, "LOG_FORMAT=xml"}, "serve --local", 2, "use text or json"},
		{[]string{secret, "DATABASE_URL=postgres:///x?host=/nonexistent"}, "serve --addr nowhere", 1, "listen on nowhere"},
		{nil, "migrate", 2, "DATABASE_URL is not set"},
		{[]string{"DATABASE_URL=postgres://h:x/"}, "migrate", 2, "DATABASE_URL: cannot parse"},
		{[]string{secret, "DATABASE_URL=postgres://h:x/"}, "serve --migrate", 2, "DATABASE_URL: cannot parse"},
		{nil, "migrate status", 2, "DATABASE_URL is not set"},
		{nil, "migrate rollback", 2, "DATABASE_URL is not set"},
		{nil, "migrate up", 2, "unknown command"},
		{nil, "send", 2, "name a file that holds an event"},
		{nil, "send x", 2, "STRIPE_WEBHOOK_SECRET is not set"},
		{[]string{secret}, "send " + missing, 2, "no such file"},
		{[]string{secret}, "send - --times 0", 2, "at least 1"},
		{[]string{secret}, "send - --to nowhere", 2, "is not a URL"},
		{[]string{secret}, "send - --to http://127.0.0.1:1/", 1, "connection refused"},
		{nil, "demo --loud", 2, "unknown flag"},
		{nil, "demo --storm thunder", 2, "use none, mild, default or wild"},
		{nil, "demo --subscriptions 0", 2, "must be from 1 to "},
		{nil, "demo --receiver right", 2, "use one of"},
		{nil, "demo --thin=thick", 2, "use only or both"},
		{nil, "demo --thin --receiver last-writer-wins", 2, "mutually exclusive"},
		{nil, "endpoint --connect", 2, "require --create"},
		{nil, "verify --gone", 2, "--gone requires --fix"},
		{nil, "verify --fix --force --here", 2, "--force requires --gone"},
		{nil, "verify --rate 0", 2, "--rate must be at least 1"},
		{nil, "verify --reason x", 2, "require --fix"},
		{nil, "verify --only in_1 --customer cus_1", 2, "mutually exclusive"},
		{nil, "verify --only x_1", 2, "the id does not show the type of the object: set --type"},
		{nil, "verify --only in_1 --type invoice,charge", 2, "--type must name exactly one type"},
		{[]string{"DATABASE_URL=postgres:///x?host=/nonexistent", "STRIPE_API_KEY=sk_test_1"}, "verify --customer cus_1 --type price,refund", 2, "no list by customer of the type price, refund"},
		{nil, "backfill", 2, "--here updates only the built-in tables"},
		{nil, "backfill --here --rate 0", 2, "--rate must be at least 1"},
		{nil, "backfill --here --type mystery", 2, `"mystery" is not known in Stripe's API`},
		{nil, "backfill --here --since 1week", 2, "use one such as 72h, 30d or 90m"},
		{[]string{"DATABASE_URL=postgres:///x?host=/nonexistent"}, "backfill --here", 2, "STRIPE_API_KEY is not set"},
	} {
		r := run(t, environ(c.env...), "{}", strings.Fields(c.args)...)
		if all := r.stdout + r.stderr; r.code != c.code || !strings.Contains(all, c.reason) {
			t.Errorf("%s %s: want exit %d and %q, got %s", c.env, c.args, c.code, c.reason, r)
		}
		if strings.Contains(r.stderr, "whsec_1") {
			t.Errorf("%s: the error shows a secret: %s", c.args, r)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"demo", "--help"}, {"migrate", "--help"},
		{"migrate", "status", "--help"}, {"migrate", "rollback", "--help"}, {"send", "--help"}, {"events", "--help"}, {"failures", "--help"},
		{"failures", "dismiss", "--help"}, {"version", "--help"}, {"replay", "--help"}, {"reconcile", "--help"}, {"verify", "--help"}, {"backfill", "--help"}, {"endpoint", "--help"}, {"prune", "--help"},
		{"reprocess", "--help"}, {"simulate", "--help"}, {"runs", "--help"}, {"erase", "--help"}} {
		r := run(t, environ(), "", args...)
		if r.code != 0 || !strings.Contains(r.stdout, "Usage:") || len(args) > 1 && !strings.Contains(r.stdout, "Examples:") {
			t.Errorf("%s: %s", args, r)
		}
		about, _, _ := strings.Cut(r.stdout, "Usage:")
		for line := range strings.Lines(about) {
			if len([]rune(line)) > 100 && !strings.HasPrefix(line, "  ") { // in a list, a line is an entry
				t.Errorf("%s: a line of %d characters: %s", args, len(line), line)
			}
		}
	}
}

func TestMigrateCommands(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewEmptyURL(t)
	env := environ("DATABASE_URL=" + databaseURL)
	expect := func(code int, text string, args ...string) {
		t.Helper()
		if r := run(t, env, "", args...); r.code != code || !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("%s: want exit %d and %q, got %s", args, code, text, r)
		}
	}
	expect(1, "migrations are missing", "migrate", "status")
	expect(0, "applied  20261126000001_create_stripe_webhook_events.sql", "migrate")
	expect(0, "No migrations to apply.", "migrate")
	expect(0, "applied", "migrate", "status")
	expect(0, "Rolled back", "migrate", "rollback")
	expect(1, "missing  2", "migrate", "status")
	expect(0, "Applied", "migrate")
	pgtest.Exec(t, pgtest.Connect(t, databaseURL), `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode)
		VALUES ('evt_1', 'a.b', 'processed', false)`)
	var r result
	for r = run(t, env, "", "migrate", "rollback"); r.code == 0; r = run(t, env, "", "migrate", "rollback") {
		continue
	}
	if r.code != 2 || !strings.Contains(r.stderr, "would drop stripe_webhook_events: the table has rows: --force drops it anyway") {
		t.Errorf("rollback of a table with rows: %s", r)
	}
	expect(0, "Rolled back", "migrate", "rollback", "--force")
	expect(1, "no migration is applied", "migrate", "rollback")
}

func TestSend(t *testing.T) {
	t.Parallel()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t)))
	env := environ("STRIPE_WEBHOOK_SECRET=" + hooktest.Secret)
	file := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(file, subscriptionEvent("evt_1", 1, "active"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := s.url + "/webhooks/stripe"
	r := run(t, env, "", "send", file, "--to", to, "--times", "20", "--concurrency", "5")
	if r.code != 0 || strings.Count(r.stdout, `"duplicate"`) != 19 || strings.Count(r.stdout, `200 {"event_id":"evt_1","outcome":"processed"}`) != 1 {
		t.Error(r)
	}
	r = run(t, env, string(subscriptionEvent("evt_2", 1, "active")), "send", "-", file, "--to", to)
	if r.code != 0 || strings.Count(r.stdout, "200 ") != 2 || !strings.Contains(r.stdout, "evt_2") {
		t.Error(r)
	}
	r = run(t, env, "{}", "send", "-", file, "--to", to)
	if r.code != 1 || !strings.Contains(r.stderr, "1 of 2 deliveries") {
		t.Error(r)
	}
	if strings.Contains(r.stdout+r.stderr, hooktest.Secret) {
		t.Errorf("it shows the secret: %s", r)
	}
}
