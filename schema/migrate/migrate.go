// Package migrate applies the migrations of package schema with dbmate, as `dbmate up` at the
// repository's root does. It is apart from schema so that a receiver does not import dbmate.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/schema"
)

// lockInterval is the pause between two tries for the lock under which migrations run.
const lockInterval = 50 * time.Millisecond

// ErrHasRows is wrapped by what Rollback returns when it would drop a table that has rows.
var ErrHasRows = errors.New("the table has rows")

// ErrNothingApplied is returned by Rollback when no migration is applied.
var ErrNothingApplied = errors.New("no migration is applied")

// Status is one migration and whether it is applied.
type Status struct {
	schema.Migration
	Applied bool
}

// Up applies every migration that is missing, oldest first, each in its own transaction. It holds an
// advisory lock meanwhile, so that any number of processes may call it at once; ctx bounds the wait for
// it. databaseURL is a libpq URL with pgxpool's parameters; of several hosts the writable one is used.
// It must lead to PostgreSQL itself: the lock does not survive a pooler in transaction mode.
// Progress goes to log, a line for each file.
func Up(ctx context.Context, databaseURL string, log io.Writer) error {
	d, err := newDBMate(databaseURL)
	if err != nil {
		return err
	}
	d.Log = log
	return locked(ctx, databaseURL, func(*pgx.Conn) error {
		if err := d.Migrate(); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		return nil
	})
}

// List tells of every migration whether it is applied, oldest first. It writes nothing.
func List(databaseURL string) ([]Status, error) {
	d, err := newDBMate(databaseURL)
	if err != nil {
		return nil, err
	}
	d.Log = io.Discard
	found, err := d.FindMigrations()
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	list := make([]Status, len(found))
	for i, m := range found {
		list[i] = Status{Migration: schema.Migration{Version: m.Version, Name: m.FileName}, Applied: m.Applied}
	}
	return list, nil
}

// Rollback undoes the newest migration that is applied. Unless force is set, it refuses with ErrHasRows
// to drop a table that has rows: those of the ledger are what keeps events from being applied twice.
func Rollback(ctx context.Context, databaseURL string, force bool, log io.Writer) error {
	d, err := newDBMate(databaseURL)
	if err != nil {
		return err
	}
	d.Log = log
	return locked(ctx, databaseURL, func(conn *pgx.Conn) error {
		if !force {
			if err := refuseRows(ctx, conn, databaseURL); err != nil {
				return err
			}
		}
		err := d.Rollback()
		if errors.Is(err, dbmate.ErrNoRollback) {
			return ErrNothingApplied
		}
		return err
	})
}

// locked runs fn under the advisory lock. It polls: a blocked lock statement would hold a snapshot that
// a migration with CREATE INDEX CONCURRENTLY waits for. Closing the connection gives the lock back.
func locked(ctx context.Context, databaseURL string, fn func(*pgx.Conn) error) error {
	config, err := connConfig(databaseURL)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to migrate: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		ok, err := db.New().MigrationLockTry(ctx, conn)
		if err != nil {
			return fmt.Errorf("lock migrations: %w", err)
		}
		if ok {
			return fn(conn)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another process is migrating: %w", ctx.Err())
		case <-time.After(lockInterval):
		}
	}
}

var dropTable = regexp.MustCompile(`(?im)^\s*DROP TABLE (?:IF EXISTS )?(\w+)`)

// refuseRows reads the newest applied migration's down part for the tables that it would drop.
func refuseRows(ctx context.Context, conn *pgx.Conn, databaseURL string) error {
	list, err := List(databaseURL)
	if err != nil {
		return err
	}
	newest := ""
	for _, m := range list {
		if m.Applied {
			newest = m.Name
		}
	}
	if newest == "" {
		return ErrNothingApplied
	}
	text, err := fs.ReadFile(schema.FS, newest)
	if err != nil {
		return err
	}
	_, down, _ := strings.Cut(string(text), "-- migrate:down")
	for _, match := range dropTable.FindAllStringSubmatch(down, -1) {
		var rows bool
		query := "SELECT EXISTS (SELECT FROM " + pgx.Identifier{match[1]}.Sanitize() + ")"
		if err := conn.QueryRow(ctx, query).Scan(&rows); err != nil {
			return fmt.Errorf("look into %s: %w", match[1], err)
		}
		if rows {
			return fmt.Errorf("rolling back %s would drop %s: %w", newest, match[1], ErrHasRows)
		}
	}
	return nil
}

// firstSchema is the first name of a search_path, quoted for SQL.
func firstSchema(searchPath string) string {
	name, _, _ := strings.Cut(searchPath, ",")
	return pgx.Identifier{strings.Trim(strings.TrimSpace(name), `"`)}.Sanitize()
}
