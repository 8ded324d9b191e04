package migrate

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	"github.com/amacneil/dbmate/v2/pkg/driver/postgres"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pook/stripeonce/schema"
)

// scheme names our driver to dbmate. Its URLs carry the caller's own in the parameter "dsn".
const scheme = "stripeonce"

func init() { dbmate.RegisterDriver(newDriver, scheme) }

// driver is dbmate's PostgreSQL driver on pgx connections instead of lib/pq's, so that migrating and
// serving read DATABASE_URL alike: pgxpool's parameters, several hosts, sslmode=prefer, a password file.
type driver struct {
	*postgres.Driver
	dsn string
}

func newDriver(config dbmate.DriverConfig) dbmate.Driver {
	return &driver{
		Driver: postgres.NewDriver(config).(*postgres.Driver),
		dsn:    config.DatabaseURL.Query().Get("dsn"),
	}
}

// connConfig reads a DATABASE_URL for a connection that migrates: to the writable host of several.
func connConfig(databaseURL string) (*pgx.ConnConfig, error) {
	pool, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("read DATABASE_URL: %w", err)
	}
	config := pool.ConnConfig
	config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	// A migration is a text of several statements, which only the simple protocol takes.
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return config, nil
}

// dbmateURL is what dbmate is given for a DATABASE_URL. dbmate looks for search_path in it.
func dbmateURL(databaseURL string) (*url.URL, error) {
	config, err := connConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	query := url.Values{"dsn": {databaseURL}}
	if path := config.RuntimeParams["search_path"]; path != "" {
		query.Set("search_path", path)
	}
	return &url.URL{Scheme: scheme, RawQuery: query.Encode()}, nil
}

func (d *driver) Open() (*sql.DB, error) {
	config, err := connConfig(d.dsn)
	if err != nil {
		return nil, err
	}
	return stdlib.OpenDB(*config), nil
}

func (d *driver) Ping() error {
	db, err := d.Open()
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Ping()
}

// CreateMigrationsTable also creates the schema that search_path names first, as dbmate's own driver does.
func (d *driver) CreateMigrationsTable(db *sql.DB) error {
	err := d.Driver.CreateMigrationsTable(db)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "3F000" { // invalid_schema_name
		return err
	}
	u, err := dbmateURL(d.dsn)
	if err != nil {
		return err
	}
	if _, err := db.Exec("CREATE SCHEMA IF NOT EXISTS " + firstSchema(u.Query().Get("search_path"))); err != nil {
		return err
	}
	return d.Driver.CreateMigrationsTable(db)
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

func newDBMate(databaseURL string) (*dbmate.DB, error) {
	u, err := dbmateURL(databaseURL)
	if err != nil {
		return nil, err
	}
	d := dbmate.New(u)
	d.FS = schema.FS
	d.MigrationsDir = []string{"."}
	d.MigrationsTableName = schema.MigrationsTable
	d.AutoDumpSchema = false
	return d, nil
}
