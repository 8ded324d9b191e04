package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
)

// catalog selects a description of the tables, their columns, constraints and indexes.
const catalog = `
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
	SELECT format('%s.%s %s %s %s %s %s', table_name, column_name, data_type, character_maximum_length, collation_name, is_nullable, column_default) AS line
	FROM information_schema.columns WHERE table_schema = 'public'
	UNION ALL SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
	UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
	UNION ALL SELECT 'migration ' || version FROM stripeonce_migrations) AS lines`

// tool returns the path of a program of tools/go.mod, and builds it unless `make` has built it.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := filepath.Abs("../.bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	path = filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path, pkg)
	build.Dir = "../tools"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

func dbmate(t *testing.T) string {
	t.Helper()
	return tool(t, "dbmate", "github.com/amacneil/dbmate/v2")
}

// The real dbmate, at the repository's root and without flags, creates and drops the same schema as the embedded
// migrations, and each recognizes the other's migrations.
func TestRealDBMate(t *testing.T) {
	t.Parallel()
	program := dbmate(t)
	databaseURL := pgtest.NewEmptyURL(t)
	pool := pgtest.Connect(t, databaseURL)
	bare := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = ".."
		// sslmode is set, since lib/pq requires TLS by default.
		cmd.Env = environ("DATABASE_URL=" + databaseURL + "&sslmode=disable")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("dbmate %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	embedded := pgtest.Connect(t, pgtest.NewURL(t))
	bare("up")
	if got, want := pgtest.Scan[string](t, pool, catalog), pgtest.Scan[string](t, embedded, catalog); got != want {
		t.Errorf("dbmate makes\n%s\nand the built-in one\n%s", got, want)
	}
	if r := run(t, environ("DATABASE_URL="+databaseURL), "", "migrate"); r.code != 0 || strings.Contains(r.stderr, "Applying") {
		t.Errorf("after dbmate's up, migrate: %s", r)
	}
	if out := bare("status"); !strings.Contains(out, "Pending: 0") {
		t.Errorf("dbmate status says %s", out)
	}
	for strings.Contains(bare("status"), "[X]") {
		bare("down")
	}
	left := pgtest.Scan[string](t, pool, `SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'`)
	if left != "stripeonce_migrations" {
		t.Errorf("dbmate's down leaves %s", left)
	}
	if r := run(t, environ("DATABASE_URL="+databaseURL), "", "migrate"); r.code != 0 {
		t.Error(r)
	}
	for _, dump := range []string{"../db/schema.sql", "../schema.sql", "../schema/schema.sql"} {
		if _, err := os.Stat(dump); err == nil {
			t.Errorf("there is a dump, %s", dump)
		}
	}
}
