package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/schema"
)

// lockInterval is the pause between two attempts to acquire the lock of migrations.
const lockInterval = 50 * time.Millisecond

// pgUndefinedTable is the SQLSTATE undefined_table.
const pgUndefinedTable = "42P01"

// oldest is the oldest major version of PostgreSQL that the tables and queries work on.
const oldest = 13

// session is a connection to the database to migrate, with the schema of the tables.
type session struct {
	conn   *pgx.Conn
	dbmate *dbmate.DB
	schema string
	exists bool // the schema exists
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

// onSession runs fn under the advisory lock. It polls for the lock, since a blocked statement would hold a snapshot, for
// which a migration with CREATE INDEX CONCURRENTLY waits. Closing the connection releases the lock.
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
	s := &session{conn: conn}
	if err := s.resolve(ctx, where); err != nil {
		return nil, err
	}
	s.dbmate = newDBMate(databaseURL, s.schema)
	return s, s.checkRecord(ctx, where.Role)
}

// resolve finds the schema of the tables: the schema of search_path that has them, since a receiver finds them there, or
// else the first one. "$user" counts only if that schema exists.
func (s *session) resolve(ctx context.Context, where db.MigrationSessionRow) error {
	names := identifiers(where.SearchPath)
	for i, name := range names {
		if name == "$user" {
			names[i] = where.Role
		}
	}
	list, err := db.New().MigrationSchemaList(ctx, s.conn, names)
	if err != nil {
		return fmt.Errorf("look for the schemas of search_path: %w", err)
	}
	existing := map[string]db.MigrationSchemaListRow{}
	for _, row := range list {
		existing[row.Name] = row
	}
	for i, name := range identifiers(where.SearchPath) {
		row, exists := existing[names[i]]
		if name == "$user" && !exists {
			continue
		}
		if s.schema == "" || row.HasTables {
			s.schema, s.exists = names[i], exists
		}
		if row.HasTables {
			break
		}
	}
	switch {
	case s.schema == "":
		return fmt.Errorf("%w: search_path is %q, which names no schema for the tables: add search_path=public to DATABASE_URL",
			ErrDatabase, where.SearchPath)
	case s.exists && !existing[s.schema].Usable:
		return fmt.Errorf("the role %s may not use the schema %s: GRANT USAGE, CREATE ON SCHEMA, or use the role that owns the tables", where.Role, s.schema)
	}
	return nil
}

// checkRecord returns an error if stripeonce_migrations is another table, or if the role may not read it: it would look
// empty.
func (s *session) checkRecord(ctx context.Context, role string) error {
	state, err := db.New().MigrationTableState(ctx, s.conn, s.schema)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for %s: %w", schema.MigrationsTable, err)
	case state.Kind != "r" || !state.HasVersion:
		return fmt.Errorf("%w: the schema %s already has another %s. Nothing was changed. %s", ErrNameTaken, s.schema, schema.MigrationsTable, ownSchema)
	case !state.Readable:
		return fmt.Errorf("the role %s may not read %s of the schema %s: use the role that owns it, %s", role, schema.MigrationsTable, s.schema, state.Owner)
	}
	return nil
}

// suits returns an error if the database cannot hold the tables, according to the parameters that the server reports.
func suits(conn *pgx.Conn) error {
	if encoding := conn.PgConn().ParameterStatus("server_encoding"); encoding != "UTF8" && encoding != "" {
		return fmt.Errorf("%w: its encoding is %s, which cannot store all of Stripe's text: create the database with ENCODING 'UTF8'",
			ErrDatabase, encoding)
	}
	version := conn.PgConn().ParameterStatus("server_version")
	digits, _, _ := strings.Cut(version, ".")
	if major, err := strconv.Atoi(digits); err == nil && major < oldest {
		return fmt.Errorf("%w: PostgreSQL is %s, and stripeonce needs %d or newer", ErrDatabase, version, oldest)
	}
	return nil
}

// identifiers parses a list of names such as search_path as PostgreSQL does: separated by commas, in lower case unless
// quoted.
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

// list returns every migration and whether it is applied, oldest first, with those that are recorded and not known.
func (s *session) list(ctx context.Context) (list []Status, err error) {
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
	known := map[string]bool{}
	for _, m := range found {
		known[m.Version] = true
		list = append(list, Status{Migration: schema.Migration{Version: m.Version, Name: m.FileName}, Applied: m.Applied})
	}
	recorded, err := s.recorded(ctx)
	if err != nil {
		return nil, err
	}
	for _, version := range recorded {
		if !known[version] {
			list = append(list, Status{Migration: schema.Migration{Version: version}, Applied: true, Unknown: true})
		}
	}
	slices.SortStableFunc(list, func(a, b Status) int { return strings.Compare(a.Version, b.Version) })
	return list, nil
}

// recorded returns the versions in stripeonce_migrations.
func (s *session) recorded(ctx context.Context) ([]string, error) {
	rows, err := s.conn.Query(ctx, "SELECT version FROM "+pgx.Identifier{s.schema, schema.MigrationsTable}.Sanitize())
	if err == nil {
		var versions []string
		if versions, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return versions, nil
		}
	}
	var missing *pgconn.PgError
	if errors.As(err, &missing) && missing.Code == pgUndefinedTable {
		return nil, nil
	}
	return nil, fmt.Errorf("read %s: %w", schema.MigrationsTable, err)
}

// migrate applies the migrations that are not recorded.
func (s *session) migrate(ctx context.Context, log io.Writer) error {
	if !s.exists {
		if _, err := s.conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{s.schema}.Sanitize()); err != nil {
			return fmt.Errorf("create the schema %s of search_path (which requires CREATE on the database): %w", s.schema, err)
		}
		fmt.Fprintf(log, "Created schema: %s\n", s.schema)
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

// record records migrations as applied and revokes the privileges that they would have revoked, in one transaction.
func (s *session) record(ctx context.Context, adopted []existing) error {
	roles, err := db.New().MigrationRoleList(ctx, s.conn)
	if err != nil {
		return fmt.Errorf("look for roles: %w", err)
	}
	migrations := pgx.Identifier{s.schema, schema.MigrationsTable}.Sanitize()
	return pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+migrations+" (version varchar PRIMARY KEY)")
		tables := []string{schema.MigrationsTable}
		for _, e := range adopted {
			if err == nil {
				_, err = tx.Exec(ctx, "INSERT INTO "+migrations+" (version) VALUES ($1) ON CONFLICT DO NOTHING", e.Version)
			}
			tables = append(tables, e.tables...)
		}
		for _, table := range tables {
			for _, role := range roles {
				if err == nil {
					_, err = tx.Exec(ctx, "REVOKE ALL ON "+pgx.Identifier{s.schema, table}.Sanitize()+" FROM "+pgx.Identifier{role}.Sanitize())
				}
			}
		}
		if err != nil {
			return fmt.Errorf("record the migrations: %w", err)
		}
		return nil
	})
}
