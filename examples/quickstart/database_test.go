package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/schema/migrate"
)

// newDatabase creates a database for one test on the server of DATABASE_URL, with stripeonce's tables and your own.
func newDatabase(t *testing.T, tables string) *pgxpool.Pool {
	ctx := context.Background()
	server, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", time.Now().UnixNano())
	if _, err := server.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = server.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		_ = server.Close(ctx)
	})
	address, err := url.Parse(os.Getenv("DATABASE_URL"))
	if err != nil {
		t.Fatal(err)
	}
	address.Path = "/" + name
	if err := migrate.Up(ctx, address.String(), io.Discard); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(ctx, tables); err != nil {
		t.Fatal(err)
	}
	return pool
}
