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

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/schema"
)

// ErrHasRows is wrapped by what Rollback returns when it would drop a table that has rows.
var ErrHasRows = errors.New("the table has rows")

// ErrNothingApplied is returned by Rollback when no migration is applied.
var ErrNothingApplied = errors.New("no migration is applied")

// ErrNameTaken is wrapped by what Up and Adopt return where the schema has a table, view, index or type that has the name of
// one of stripeonce's and is another.
var ErrNameTaken = errors.New("the name is taken")

// ErrNotRecorded is wrapped by what Up returns where the schema has stripeonce's tables, and stripeonce_migrations does not
// record their migrations.
var ErrNotRecorded = errors.New("the migrations are not recorded")

// ErrDatabase is wrapped where the database cannot hold the tables: its encoding is not UTF8, or PostgreSQL is older than
// version 13.
var ErrDatabase = errors.New("the database does not suit")

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
//
// Of the schemas that search_path names, the tables are made in the one that has some of them already, else in the first,
// which is made if it does not exist. Before the first statement, Up looks for tables, views, indexes and types of the same names there: it returns ErrNameTaken where they are
// somebody else's, and ErrNotRecorded where they are stripeonce's and stripeonce_migrations does not say so. Then nothing
// has been changed.
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

// Adopt is Up for a database that has tables of stripeonce's without a record of their migrations, as one has that was
// loaded from a dump of another (dbmate load, pg_dump without the data of stripeonce_migrations). It records the
// migrations whose tables exist exactly as the migrations make them, and applies the others. It returns
// ErrNameTaken, with the differences, where a table is another: then nothing has been changed.
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

// List tells of every migration whether it is applied, oldest first. It writes nothing.
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
	return s.list()
}

// Rollback undoes the newest migration that is applied. Unless force is set, it refuses with ErrHasRows
// to drop a table that has rows: those of the ledger are what keeps events from being applied twice.
func Rollback(ctx context.Context, databaseURL string, force bool, log io.Writer) error {
	return onSession(ctx, databaseURL, func(s *session) error {
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

var dropTable = regexp.MustCompile(`(?im)^\s*DROP TABLE (?:IF EXISTS )?(\w+)`)

// refuseRows reads the newest applied migration's down part for the tables that it would drop.
func (s *session) refuseRows(ctx context.Context) error {
	list, err := s.list()
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
			return fmt.Errorf("look into %s: %w", match[1], err)
		}
		if rows {
			return fmt.Errorf("rolling back %s would drop %s: %w", newest, match[1], ErrHasRows)
		}
	}
	return nil
}

// parts are what a migration does and what undoes it.
func parts(name string) (up, down string, err error) {
	text, err := fs.ReadFile(schema.FS, name)
	up, down, _ = strings.Cut(string(text), "-- migrate:down")
	return up, down, err
}
