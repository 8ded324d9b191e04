// Package sqltx lets a handler use database/sql in its event's transaction, for a host whose own code is written on
// database/sql: with GORM, ent, sqlx, or sqlc's output for database/sql.
//
//	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
//		db := sqltx.Open(tx)
//		defer db.Close()
//		_, err := db.ExecContext(ctx, `UPDATE accounts SET paid = paid + $1 WHERE customer_id = $2`, inv.AmountPaid, inv.Customer.ID)
//		return err
//	})
//
// A *sql.DB of the host's own would use another connection and so another transaction: what it wrote would stay when the
// event is rolled back, and be done again by the retry.
package sqltx

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// ErrTxOptions is wrapped by what BeginTx returns for an isolation level or a read-only transaction: the transaction is the
// receiver's, and has begun.
var ErrTxOptions = errors.New("the event's transaction has begun: use BeginTx without options")

// Open returns a *sql.DB that runs every statement in tx, for as long as the handler that tx was given to runs. Close it
// before the handler returns.
//
// Begin sets a savepoint, which Commit releases and Rollback returns to. All statements share one session: those that run
// while a savepoint is open belong to it. Statements run one at a time, also from several goroutines. A query's rows are read
// into memory at once, so that another statement may run while they are open. Prepared statements are pgx's own, by their
// text. Arguments and results are of the types that pgx's database/sql driver has.
func Open(tx pgx.Tx) *sql.DB {
	return sql.OpenDB(&connector{session: &session{}, tx: tx})
}

// session lets one statement run at a time.
type session struct{ mu sync.Mutex }

type connector struct {
	session *session
	tx      pgx.Tx
}

func (c *connector) Connect(context.Context) (driver.Conn, error) {
	return &conn{session: c.session, tx: c.tx}, nil
}

func (c *connector) Driver() driver.Driver { return c }

// Open is there for driver.Driver: a transaction has no name by which it could be opened.
func (c *connector) Open(string) (driver.Conn, error) {
	return nil, errors.New("sqltx: use sqltx.Open")
}

// conn runs statements in the transaction, or in the savepoint that Begin has set.
type conn struct {
	session *session
	tx      pgx.Tx
}

var (
	_ driver.ConnBeginTx       = (*conn)(nil)
	_ driver.ExecerContext     = (*conn)(nil)
	_ driver.QueryerContext    = (*conn)(nil)
	_ driver.NamedValueChecker = (*conn)(nil)
)

func (c *conn) Close() error { return nil }

// CheckNamedValue lets pgx convert the arguments.
func (c *conn) CheckNamedValue(value *driver.NamedValue) error {
	if value.Name != "" {
		return fmt.Errorf("sqltx: the argument %q has a name: use $%d", value.Name, value.Ordinal)
	}
	return nil
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	tag, err := c.tx.Exec(ctx, query, values(args)...)
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

// inBinary are the types whose values pgx makes a driver.Value of faster from their binary form. Others come as text, which
// is what database/sql hands on.
var inBinary = pgx.QueryResultFormatsByOID{
	pgtype.BoolOID: pgx.BinaryFormatCode, pgtype.ByteaOID: pgx.BinaryFormatCode, pgtype.DateOID: pgx.BinaryFormatCode,
	pgtype.Float4OID: pgx.BinaryFormatCode, pgtype.Float8OID: pgx.BinaryFormatCode, pgtype.Int2OID: pgx.BinaryFormatCode,
	pgtype.Int4OID: pgx.BinaryFormatCode, pgtype.Int8OID: pgx.BinaryFormatCode,
	pgtype.TimestampOID: pgx.BinaryFormatCode, pgtype.TimestamptzOID: pgx.BinaryFormatCode,
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	answer, err := c.tx.Query(ctx, query, append([]any{inBinary}, values(args)...)...)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	r := &rows{}
	for _, field := range answer.FieldDescriptions() {
		r.columns = append(r.columns, field.Name)
	}
	types := c.tx.Conn().TypeMap()
	for answer.Next() {
		row := make([]driver.Value, len(r.columns))
		for i, raw := range answer.RawValues() {
			field := answer.FieldDescriptions()[i]
			if t, known := types.TypeForOID(field.DataTypeOID); known {
				row[i], err = t.Codec.DecodeDatabaseSQLValue(types, field.DataTypeOID, field.Format, raw)
			} else if raw != nil {
				row[i] = string(raw)
			}
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", field.Name, err)
			}
			if bytes, ok := row[i].([]byte); ok {
				row[i] = slices.Clone(bytes) // raw is the connection's buffer
			}
		}
		r.values = append(r.values, row)
	}
	return r, answer.Err()
}

func (c *conn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	if options.ReadOnly || options.Isolation != driver.IsolationLevel(sql.LevelDefault) {
		return nil, ErrTxOptions
	}
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	outer := c.tx
	inner, err := outer.Begin(ctx)
	if err != nil {
		return nil, err
	}
	c.tx = inner
	return &savepoint{conn: c, outer: outer, ctx: context.WithoutCancel(ctx)}, nil
}

// Begin is there for driver.Conn; database/sql calls BeginTx.
func (c *conn) Begin() (driver.Tx, error) { return c.BeginTx(context.Background(), driver.TxOptions{}) }

// Prepare returns a statement that pgx prepares when it is first used.
func (c *conn) Prepare(query string) (driver.Stmt, error) { return &stmt{conn: c, query: query}, nil }

func values(args []driver.NamedValue) []any {
	list := make([]any, len(args))
	for i, arg := range args {
		list[i] = arg.Value
	}
	return list
}

// savepoint is what Begin returns. database/sql ends it without a context.
type savepoint struct {
	conn  *conn
	outer pgx.Tx
	ctx   context.Context
}

func (s *savepoint) end(how func(pgx.Tx, context.Context) error) error {
	s.conn.session.mu.Lock()
	defer s.conn.session.mu.Unlock()
	inner := s.conn.tx
	s.conn.tx = s.outer
	return how(inner, s.ctx)
}

func (s *savepoint) Commit() error   { return s.end(pgx.Tx.Commit) }
func (s *savepoint) Rollback() error { return s.end(pgx.Tx.Rollback) }

type stmt struct {
	conn  *conn
	query string
}

var (
	_ driver.StmtExecContext  = (*stmt)(nil)
	_ driver.StmtQueryContext = (*stmt)(nil)
)

func (s *stmt) Close() error  { return nil }
func (s *stmt) NumInput() int { return -1 } // PostgreSQL checks it

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.query, args)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.query, args)
}

// Exec and Query are there for driver.Stmt; database/sql calls those with a context.
func (s *stmt) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }

func (s *stmt) Query([]driver.Value) (driver.Rows, error) { return nil, driver.ErrSkip }

// rows are a query's rows in memory.
type rows struct {
	columns []string
	values  [][]driver.Value
}

func (r *rows) Columns() []string { return r.columns }
func (r *rows) Close() error      { return nil }

func (r *rows) Next(into []driver.Value) error {
	if len(r.values) == 0 {
		return io.EOF
	}
	copy(into, r.values[0])
	r.values = r.values[1:]
	return nil
}
