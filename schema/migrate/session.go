package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/schema"
)

// lockInterval is the pause between two tries for the lock under which migrations run.
const lockInterval = 50 * time.Millisecond

// oldest is the oldest major version of PostgreSQL that the tables and queries work on.
const oldest = 13

// session is a connection to a database that is migrated, and the schema that has the tables.
type session struct {
	conn   *pgx.Conn
	dbmate *dbmate.DB
	schema string
	exists bool // the schema does
}

func connect(ctx context.Context, databaseURL string) (*pgx.Conn, error) {
	config, err := connConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to migrate: %w", err)
	}
	return conn, nil
}

// onSession runs fn under the advisory lock. It polls: a blocked lock statement would hold a snapshot that
// a migration with CREATE INDEX CONCURRENTLY waits for. Closing the connection gives the lock back.
func onSession(ctx context.Context, databaseURL string, fn func(*session) error) error {
	conn, err := connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		ok, err := db.New().MigrationLockTry(ctx, conn)
		if err != nil {
			return fmt.Errorf("lock migrations: %w", err)
		}
		if ok {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another process is migrating: %w", ctx.Err())
		case <-time.After(lockInterval):
		}
	}
	s, err := newSession(ctx, conn, databaseURL)
	if err != nil {
		return err
	}
	return fn(s)
}

func newSession(ctx context.Context, conn *pgx.Conn, databaseURL string) (*session, error) {
	if err := suits(conn); err != nil {
		return nil, err
	}
	where, err := db.New().MigrationSession(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("read search_path: %w", err)
	}
	s := &session{conn: conn, dbmate: newDBMate(databaseURL)}
	for _, name := range identifiers(where.SearchPath) {
		own := name == "$user"
		if own {
			name = where.Role
		}
		if s.exists, err = db.New().MigrationSchemaExists(ctx, conn, name); err != nil {
			return nil, fmt.Errorf("look for the schema %s: %w", name, err)
		}
		if s.exists || !own {
			s.schema = name
			break
		}
	}
	if s.schema == "" {
		return nil, fmt.Errorf("search_path is %q, which names no schema for the tables: add search_path=public to DATABASE_URL", where.SearchPath)
	}
	return s, nil
}

// suits refuses a database that cannot hold the tables, by what the server reports at a connection's start.
func suits(conn *pgx.Conn) error {
	if encoding := conn.PgConn().ParameterStatus("server_encoding"); encoding != "UTF8" && encoding != "" {
		return fmt.Errorf("%w: it cannot hold all of Stripe's text, since its encoding is %s: create the database with ENCODING 'UTF8'",
			ErrDatabase, encoding)
	}
	version := conn.PgConn().ParameterStatus("server_version")
	digits, _, _ := strings.Cut(version, ".")
	if major, err := strconv.Atoi(digits); err == nil && major < oldest {
		return fmt.Errorf("%w: PostgreSQL is %s, and stripeonce needs %d or newer", ErrDatabase, version, oldest)
	}
	return nil
}

// identifiers are the names in a list such as search_path, as PostgreSQL reads it: separated by commas, in lower case
// unless they are quoted.
func identifiers(list string) (names []string) {
	for rest := strings.TrimSpace(list); rest != ""; {
		var name string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			end := 0
			for end < len(quoted) && (quoted[end] != '"' || strings.HasPrefix(quoted[end+1:], `"`)) {
				if quoted[end] == '"' {
					end++
				}
				end++
			}
			name = strings.ReplaceAll(quoted[:end], `""`, `"`)
			_, rest, _ = strings.Cut(quoted[min(end+1, len(quoted)):], ",")
		} else {
			name, rest, _ = strings.Cut(rest, ",")
			name = strings.ToLower(strings.TrimSpace(name))
		}
		if rest = strings.TrimSpace(rest); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// list tells of every migration whether it is applied, the oldest first.
func (s *session) list() (list []Status, err error) {
	if !s.exists {
		for _, m := range schema.Migrations() {
			list = append(list, Status{Migration: m})
		}
		return list, nil
	}
	found, err := s.dbmate.FindMigrations()
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	for _, m := range found {
		list = append(list, Status{Migration: schema.Migration{Version: m.Version, Name: m.FileName}, Applied: m.Applied})
	}
	return list, nil
}

// migrate applies the migrations that are not recorded.
func (s *session) migrate(ctx context.Context, log io.Writer) error {
	if !s.exists {
		fmt.Fprintf(log, "Creating schema: %s\n", s.schema)
		if _, err := s.conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{s.schema}.Sanitize()); err != nil {
			return fmt.Errorf("create the schema that search_path names: %w", err)
		}
		s.exists = true
	}
	told := &progress{to: log}
	s.dbmate.Log = told
	if err := s.dbmate.Migrate(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	told.done()
	return nil
}

// record says that a migration is applied.
func (s *session) record(ctx context.Context, m schema.Migration) error {
	table := pgx.Identifier{s.schema, schema.MigrationsTable}.Sanitize()
	_, err := s.conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+table+" (version varchar PRIMARY KEY)")
	if err == nil {
		_, err = s.conn.Exec(ctx, "INSERT INTO "+table+" (version) VALUES ($1)", m.Version)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("record %s", m.Name), err)
	}
	return nil
}
