package pgtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ExampleURL returns the URL of an empty database for an Example. It panics on an error.
func ExampleURL() string {
	url, err := exampleDatabase(context.Background(), "template0")
	if err != nil {
		panic(err)
	}
	return url
}

// ExamplePool connects to a clone of the template for an Example, which has no testing.TB. It runs the statements first, and
// panics on an error. The database goes with the cluster.
func ExamplePool(statements ...string) *pgxpool.Pool {
	pool, err := examplePool(context.Background(), statements)
	if err != nil {
		panic(err)
	}
	return pool
}

func examplePool(ctx context.Context, statements []string) (*pgxpool.Pool, error) {
	url, err := exampleDatabase(ctx, template)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.New(ctx, url)
	for _, statement := range statements {
		if err == nil {
			_, err = pool.Exec(ctx, statement)
		}
	}
	return pool, err
}

func exampleDatabase(ctx context.Context, template string) (url string, err error) {
	c, err := cluster()
	if err != nil {
		return "", err
	}
	admin, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer admin.Close(ctx)
	name := fmt.Sprintf("example_%d", clones.Add(1))
	_, err = admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template)
	return c.URL(name), err
}
