package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/schema"
)

// ErrHasRows reports that Rollback would drop a table that has rows.
var ErrHasRows = errors.New("the table has rows")

// ErrNothingApplied is returned by Rollback if no migration is applied.
var ErrNothingApplied = errors.New("no migration is applied")

// ErrNameTaken reports that the schema has another table, view, index, sequence or type with the name of one of stripeonce's. Up and
// Adopt return it.
var ErrNameTaken = errors.New("the name is taken")

// ErrNotRecorded reports that the schema has stripeonce's tables, but stripeonce_migrations does not record their
// migrations. Up returns it.
var ErrNotRecorded = errors.New("the migrations are not recorded")

// ErrDatabase reports that the database cannot hold the tables: its encoding is not UTF8, or PostgreSQL is older than 13.
var ErrDatabase = errors.New("the database is not suitable")

// ErrNewer reports that a newer version of stripeonce has applied migrations that this one does not have, so that it cannot undo the
// newest. Rollback returns it.
var ErrNewer = errors.New("a newer version of stripeonce has migrated the database")

// Status is one migration and whether it is applied.
type Status struct {
	schema.Migration
	Applied bool
	// Unknown is set if the migration is recorded, but is none of this version: a newer version of stripeonce has applied it. Its Name
	// is empty.
	Unknown bool
}

// Up applies every missing migration, oldest first, each in its own transaction. It holds an advisory lock, so any number
// of processes may call it concurrently. ctx bounds the wait for the lock. Up writes a line to log for each file.
//
// databaseURL is a libpq URL with pgxpool's parameters. Among several hosts, the writable one is used. It must connect to
// PostgreSQL itself, since the lock does not work through a pooler in transaction mode.
//
// The tables are created in the schema of search_path that has some of them already, or else in the first one, which is
// created if necessary. Before its first statement, Up looks there for tables, views, indexes and types of the same names.
// It returns ErrNameTaken if they are another application's, and ErrNotRecorded if they are stripeonce's but
// stripeonce_migrations does not record them. In both cases nothing has been changed.
func Up(ctx context.Context, databaseURL string, log io.Writer) error {
	return onSession(ctx, databaseURL, func(s *session) error {
		existing, err := s.existing(ctx)
		if err != nil {
			return err
		}
		if len(existing) > 0 {
			return s.refuse(ctx, existing)
		}
		return s.migrate(ctx, log)
	})
}

// Adopt is Up for a database that has stripeonce's tables without a record of their migrations, such as after dbmate load,
// or after pg_dump without the data of stripeonce_migrations. It records the migrations whose tables exist exactly as the
// migrations create them, and applies the others. If a table differs, it returns ErrNameTaken or ErrNotRecorded with the
// differences, and nothing has been changed.
func Adopt(ctx context.Context, databaseURL string, log io.Writer) error {
	return onSession(ctx, databaseURL, func(s *session) error {
		existing, err := s.existing(ctx)
		if err != nil {
			return err
		}
		if err := s.adopt(ctx, existing, log); err != nil {
			return err
		}
		return s.migrate(ctx, log)
	})
}

// List returns every migration and whether it is applied, oldest first, with those that a newer version of stripeonce has applied. It
// writes nothing.
func List(ctx context.Context, databaseURL string) ([]Status, error) {
	conn, err := connect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	s, err := newSession(ctx, conn, databaseURL)
	if err != nil {
		return nil, err
	}
	return s.list(ctx)
}

// Rollback undoes the newest applied migration. Unless force is set, it returns ErrHasRows instead of dropping a table that
// has rows: without the ledger's rows, events take effect twice. It returns ErrNewer if the newest migration is one of a newer version of
// stripeonce, whose Rollback can undo it.
func Rollback(ctx context.Context, databaseURL string, force bool, log io.Writer) error {
	return onSession(ctx, databaseURL, func(s *session) error {
		if err := s.refuseNewer(ctx); err != nil {
			return err
		}
		if !force {
			if err := s.refuseRows(ctx); err != nil {
				return err
			}
		}
		s.dbmate.Log = log
		err := s.dbmate.Rollback()
		if errors.Is(err, dbmate.ErrNoRollback) {
			return ErrNothingApplied
		}
		return err
	})
}

// refuseNewer returns ErrNewer if a migration is recorded that this version does not have.
func (s *session) refuseNewer(ctx context.Context) error {
	list, err := s.list(ctx)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.Unknown {
			return fmt.Errorf("%w: this version does not have the migration %s: use the version that applied it", ErrNewer, m.Version)
		}
	}
	return nil
}

var dropTable = regexp.MustCompile(`(?im)^\s*DROP TABLE (?:IF EXISTS )?(\w+)`)

// refuseRows returns ErrHasRows if the newest applied migration's down part would drop a table that has rows.
func (s *session) refuseRows(ctx context.Context) error {
	list, err := s.list(ctx)
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
	_, down, err := parts(newest)
	if err != nil {
		return err
	}
	for _, match := range dropTable.FindAllStringSubmatch(down, -1) {
		var rows bool
		query := "SELECT EXISTS (SELECT FROM " + pgx.Identifier{s.schema, match[1]}.Sanitize() + ")"
		if err := s.conn.QueryRow(ctx, query).Scan(&rows); err != nil {
			return fmt.Errorf("check %s for rows: %w", match[1], err)
		}
		if rows {
			return fmt.Errorf("rolling back %s would drop %s: %w", newest, match[1], ErrHasRows)
		}
	}
	return nil
}

// parts returns the up and the down part of a migration.
func parts(name string) (up, down string, err error) {
	text, err := fs.ReadFile(schema.FS, name)
	up, down, _ = strings.Cut(string(text), "-- migrate:down")
	return up, down, err
}
