package pgtest

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// NewRole makes a role that may log in and nothing else, and drops it with what it was granted when the test ends.
func NewRole(tb testing.TB, pool *pgxpool.Pool) string {
	tb.Helper()
	name := fmt.Sprintf("role_%d", clones.Add(1))
	Exec(tb, pool, "CREATE ROLE "+name+" LOGIN")
	tb.Cleanup(func() { Exec(tb, pool, "DROP OWNED BY "+name+"; DROP ROLE "+name) })
	return name
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
