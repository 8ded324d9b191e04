package pgtest

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// NewRole creates a role that may only log in. It drops the role and its privileges when the test ends.
func NewRole(tb testing.TB, pool *pgxpool.Pool) string {
	tb.Helper()
	name := fmt.Sprintf("role_%d", clones.Add(1))
	Exec(tb, pool, "CREATE ROLE "+name+" LOGIN")
	tb.Cleanup(func() { Exec(tb, pool, "DROP OWNED BY "+name+"; DROP ROLE "+name) })
	return name
}

// EndOthers ends every other session of the pool's database, and returns when they have ended.
func EndOthers(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	const others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
	Exec(tb, pool, "SELECT pg_terminate_backend(pid) "+others)
	AwaitSQL(tb, pool, "the other sessions have ended", "SELECT NOT EXISTS (SELECT "+others+")")
}

// ConnectAs is Connect as another role.
func ConnectAs(tb testing.TB, databaseURL, role string) *pgxpool.Pool {
	tb.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		tb.Fatal(err)
	}
	u.User = url.User(role)
	return Connect(tb, u.String())
}
