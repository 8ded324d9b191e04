package migrate

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	"github.com/amacneil/dbmate/v2/pkg/driver/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pook/stripeonce/internal/dburl"
	"github.com/pook/stripeonce/schema"
)

// scheme is the URL scheme of our dbmate driver. Its URLs have the caller's URL in the parameter "dsn".
const scheme = "stripeonce"

func init() { dbmate.RegisterDriver(newDriver, scheme) }

// driver is dbmate's PostgreSQL driver with pgx in place of lib/pq, so that migrate and serve read DATABASE_URL alike:
// pgxpool's parameters, several hosts, sslmode=prefer, a password file.
type driver struct {
	*postgres.Driver
	dsn    string
	schema string // the schema of the tables, whatever search_path is
}

func newDriver(config dbmate.DriverConfig) dbmate.Driver {
	return &driver{
		Driver: postgres.NewDriver(config).(*postgres.Driver),
		dsn:    config.DatabaseURL.Query().Get("dsn"),
		schema: config.DatabaseURL.Query().Get("in"),
	}
}

// connConfig reads a DATABASE_URL for a migration's connection. Among several hosts, it selects the writable one.
func connConfig(databaseURL string) (*pgx.ConnConfig, error) {
	pool, err := pgxpool.ParseConfig(dburl.Normalize(databaseURL))
	if err != nil {
		return nil, fmt.Errorf("read DATABASE_URL: %w", err)
	}
	config := pool.ConnConfig
	config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	// A migration has several statements in one text, which only the simple protocol accepts. pgx requires UTF-8 for it.
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.RuntimeParams["client_encoding"] = "UTF8"
	return config, nil
}

func (d *driver) Open() (*sql.DB, error) {
	config, err := connConfig(d.dsn)
	if err != nil {
		return nil, err
	}
	return stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SET search_path TO "+pgx.Identifier{d.schema}.Sanitize())
		return err
	})), nil
}

func (d *driver) Ping() error {
	db, err := d.Open()
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Ping()
}

// QueryError adds the position in the migration's text.
func (d *driver) QueryError(query string, err error) error {
	var pgErr *pgconn.PgError
	position := 0
	if errors.As(err, &pgErr) {
		position = int(pgErr.Position)
	}
	return &dbmate.QueryError{Err: err, Query: query, Position: position}
}

// newDBMate returns a dbmate that works in one schema.
func newDBMate(databaseURL, inSchema string) *dbmate.DB {
	query := url.Values{"dsn": {databaseURL}, "in": {inSchema}}
	d := dbmate.New(&url.URL{Scheme: scheme, RawQuery: query.Encode()})
	d.FS = schema.FS
	d.MigrationsDir = []string{"."}
	d.MigrationsTableName = schema.MigrationsTable
	d.AutoDumpSchema = false
	d.Log = io.Discard
	return d
}

// progress forwards dbmate's progress lines. It holds back "Applied" until the next line or done, since dbmate also writes
// it for a migration that failed.
type progress struct {
	to   io.Writer
	held []byte
}

func (p *progress) Write(line []byte) (int, error) {
	p.done()
	if bytes.HasPrefix(line, []byte("Applied:")) {
		p.held = bytes.Clone(line)
		return len(line), nil
	}
	return p.to.Write(line)
}

func (p *progress) done() {
	_, _ = p.to.Write(p.held)
	p.held = nil
}
