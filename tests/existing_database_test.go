package tests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema"
)

// recipe is a section of docs/existing-database.md with commands: the database before them, and a condition afterwards.
type recipe struct {
	before string // SQL
	after  string // a query that returns true
	prints []string
	folder func(t *testing.T, databaseURL string) string // the folder of the commands; nil: the repository's root
}

const allRecorded = `SELECT (SELECT count(*) = 11 FROM %s.stripeonce_migrations)`

var recipes = map[string]recipe{
	"No tables of these names": {after: fmt.Sprintf(allRecorded, "public"), prints: []string{"applied  20261126000004_create_subscription_items.sql"}},
	"A table subscriptions of your own": {
		before: `CREATE TABLE subscriptions (mine text); INSERT INTO subscriptions VALUES ('kept')`,
		after:  fmt.Sprintf(allRecorded, "stripeonce") + ` AND (SELECT mine = 'kept' FROM public.subscriptions)`,
	},
	"dbmate beside dbmate": {
		after:  fmt.Sprintf(allRecorded, "public") + ` AND EXISTS (SELECT FROM schema_migrations) AND EXISTS (SELECT FROM pg_tables WHERE tablename = 'things')`,
		prints: []string{"Adopted: 20261126000001_create_stripe_webhook_events.sql", "Adopted: 20261126000004_create_subscription_items.sql"},
		folder: dumped,
	},
	"A dump, or another migration tool": {after: fmt.Sprintf(allRecorded, "public"), prints: []string{"Adopted: 20261126000003_create_subscriptions.sql"}},
	"Roles": {
		after:  fmt.Sprintf(allRecorded, "public") + ` AND (SELECT tableowner = 'stripeonce_owner' FROM pg_tables WHERE tablename = 'subscriptions')`,
		prints: []string{"migrate as stripeonce_owner"},
	},
	"Supabase": {
		before: migrations(),
		after:  `SELECT bool_and(rowsecurity) FROM pg_tables WHERE schemaname = 'public'`,
	},
}

// migrations returns all migrations as one text, with the table that dbmate creates.
func migrations() string {
	text := "CREATE TABLE stripeonce_migrations (version varchar PRIMARY KEY);"
	for _, m := range schema.Migrations() {
		file, err := schema.FS.ReadFile(m.Name)
		if err != nil {
			panic(err)
		}
		up, _, _ := strings.Cut(string(file), "-- migrate:down")
		text += up
	}
	return text
}

// Every command of "Into an existing database" works as written, in the matching kind of database.
func TestExistingDatabase(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	client := filepath.Dir(psqlProgram(t))
	page := read(t, "../docs/existing-database.md").text
	sections := map[string]string{}
	for _, section := range strings.Split(page, "\n## ")[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		for _, b := range (document{"docs/existing-database.md", text}).blocks() {
			if b.language == "sh" {
				sections[heading] += b.text
			}
		}
	}
	for heading, script := range sections {
		r, known := recipes[heading]
		if !known {
			if script != "" {
				t.Errorf("the commands of %q are not tested", heading)
			}
			continue
		}
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.NewCluster(t, pglocal.Config{Disposable: true})
			databaseURL := cluster.URL("postgres") + "&sslmode=disable"
			pool := pgtest.Connect(t, databaseURL)
			if r.before != "" {
				pgtest.Exec(t, pool, r.before)
			}
			folder := root
			if r.folder != nil {
				folder = r.folder(t, databaseURL)
			}
			out := inShell(t, folder, script, "DATABASE_URL="+databaseURL, "OWNER_URL="+strings.Replace(databaseURL, "stripeonce@", "stripeonce_owner@", 1), "PATH="+strings.Join([]string{
				filepath.Dir(program), filepath.Dir(dbmate(t)), client, os.Getenv("PATH")}, ":"))
			for _, want := range r.prints {
				if !strings.Contains(out, want) {
					t.Errorf("it does not print %q, but\n%s", want, out)
				}
			}
			if !pgtest.Scan[bool](t, pool, r.after) {
				t.Errorf("afterwards %s is not true; it printed\n%s", r.after, out)
			}
		})
	}
	for heading := range recipes {
		if sections[heading] == "" {
			t.Errorf("the page has no section %q with commands", heading)
		}
	}
}

// inShell runs a script and returns its output.
func inShell(t *testing.T, folder, script string, env ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env, cmd.WaitDelay = folder, environ(env...), time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// dumped returns the folder of a host that uses dbmate. It has the dump that `dbmate up` wrote of a database with
// stripeonce's tables.
func dumped(t *testing.T, databaseURL string) string {
	t.Helper()
	client := filepath.Dir(psqlProgram(t))
	pool := pgtest.Connect(t, databaseURL)
	server := pgtest.Scan[string](t, pool, `SELECT (current_setting('server_version_num')::int / 10000)::text`)
	if out, err := exec.Command(filepath.Join(client, "pg_dump"), "--version").Output(); err != nil || majorOf(string(out)) < server {
		t.Skipf("pg_dump is older than the server, PostgreSQL %s", server)
	}
	folder := t.TempDir()
	write(t, 0o644, filepath.Join(folder, "db", "migrations", "20260101000000_things.sql"),
		"-- migrate:up\nCREATE TABLE things (id bigint);\n-- migrate:down\nDROP TABLE things;\n")
	pgtest.Exec(t, pool, `CREATE DATABASE development`)
	development := strings.Replace(databaseURL, "/postgres?", "/development?", 1)
	env := []string{"DATABASE_URL=" + development, "PATH=" + filepath.Dir(program) + ":" + filepath.Dir(dbmate(t)) + ":" + client + ":" + os.Getenv("PATH")}
	inShell(t, folder, "stripeonce migrate && dbmate up", env...)
	if text, err := os.ReadFile(filepath.Join(folder, "db", "schema.sql")); err != nil || !strings.Contains(string(text), "stripe_webhook_events") {
		t.Fatalf("dbmate's dump has none of our tables: %v\n%s", err, text)
	}
	return folder
}

// majorOf returns the major version in a text such as "pg_dump (PostgreSQL) 15.18".
func majorOf(text string) string {
	fields := strings.Fields(text)
	for _, field := range fields {
		if major, _, found := strings.Cut(field, "."); found {
			return major
		}
	}
	return ""
}

// /readyz responds with the error of Ready.
func TestReadyzSaysWhy(t *testing.T) {
	t.Parallel()
	german := pgtest.NewURL(t)
	pgtest.Exec(t, pgtest.Connect(t, german), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET DateStyle = German', current_database()); END $$`)
	drops := pgtest.NewURL(t)
	pool := pgtest.Connect(t, drops)
	pgtest.Exec(t, pool, `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`)
	pgtest.Exec(t, pool, `CREATE TRIGGER nothing BEFORE INSERT ON stripe_webhook_events FOR EACH ROW EXECUTE FUNCTION nothing()`)
	for url, says := range map[string]string{
		pgtest.NewDatabaseURL(t, "ENCODING 'LATIN1' LOCALE 'C'"): "its encoding is LATIN1, which cannot store all of Stripe's text: create the database with ENCODING 'UTF8'",
		german + "&default_query_exec_mode=exec":                 "add DateStyle=ISO to the database URL",
		pgtest.NewURL(t) + "&client_encoding=LATIN1":             "add client_encoding=UTF8 to the database URL",
		drops:                 "a trigger or rule on the table drops rows",
		pgtest.NewEmptyURL(t): "run 'stripeonce migrate'",
	} {
		s := serve(t, environ("DATABASE_URL="+url))
		if status, body := s.get(t, "/readyz"); status != 503 || !strings.Contains(body, says) {
			t.Errorf("/readyz answers %d %s, want %q", status, body, says)
		}
	}
}
