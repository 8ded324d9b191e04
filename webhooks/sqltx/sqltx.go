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
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// ErrTxOptions is returned by BeginTx for an isolation level or a read-only transaction, since the receiver has already
// begun the transaction.
var ErrTxOptions = errors.New("the event's transaction has already started: call BeginTx without options")

// Open returns a *sql.DB that runs every statement in the handler's tx. It is valid until the handler returns. Close it
// before.
//
// Begin sets a savepoint. Commit releases it. Rollback, or the end of its context, rolls back to it. All statements share
// one session: statements that run while a savepoint is open belong to it, also statements on the *sql.DB itself.
//
// Statements run one at a time, also from several goroutines. A query's rows are read into memory, so that another
// statement may run while they are open. Prepared statements are cached by pgx. Arguments and results have the types of
// pgx's database/sql driver.
func Open(tx pgx.Tx) *sql.DB {
	return sql.OpenDB(&connector{&session{tx: tx}})
}

// session is the handler's session: one statement runs at a time, in the innermost savepoint that is open.
type session struct {
	mu   sync.Mutex
	tx   pgx.Tx       // the event's transaction
	open []*savepoint // innermost last
}

// do runs fn while no other statement runs. It first rolls back savepoints whose context has ended: database/sql does that
// in another goroutine, possibly after fn.
func (s *session) do(fn func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, sp := range s.open {
		if sp.given.Err() != nil {
			if err := s.end(i, pgx.Tx.Rollback); err != nil {
				return err
			}
			break
		}
	}
	return fn()
}

// end ends an open savepoint and the savepoints inside it.
func (s *session) end(i int, how func(pgx.Tx, context.Context) error) error {
	sp := s.open[i]
	s.open = s.open[:i]
	return how(sp.tx, context.WithoutCancel(sp.given))
}

// ErrFailed is returned by Commit after a failed statement. Everything since Begin is rolled back.
var ErrFailed = errors.New("sqltx: a statement of the transaction failed, so it was rolled back")

// failed is PostgreSQL's status of a transaction in which a statement has failed.
const failed = 'E'

func commitOrRollback(tx pgx.Tx, ctx context.Context) error { //nolint:revive // the order of a method's expression
	if conn := tx.Conn(); conn != nil && conn.PgConn().TxStatus() == failed {
		return errors.Join(ErrFailed, tx.Rollback(ctx))
	}
	return tx.Commit(ctx)
}

type connector struct{ session *session }

func (c *connector) Connect(context.Context) (driver.Conn, error) { return &conn{c.session}, nil }

func (c *connector) Driver() driver.Driver { return c }

// Open implements driver.Driver. It returns an error, since a transaction cannot be opened by name.
func (c *connector) Open(string) (driver.Conn, error) {
	return nil, errors.New("sqltx: use sqltx.Open")
}

// conn is a connection of database/sql. All connections share the session.
type conn struct{ session *session }

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

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (result driver.Result, err error) {
	return result, c.session.do(func() error {
		tag, err := c.session.tx.Exec(ctx, query, values(args)...)
		result = driver.RowsAffected(tag.RowsAffected())
		return err
	})
}

// inBinary has the types whose values are requested in binary form, which pgx converts to a driver.Value faster. Others are
// requested as text.
var inBinary = pgx.QueryResultFormatsByOID{
	pgtype.BoolOID: pgx.BinaryFormatCode, pgtype.ByteaOID: pgx.BinaryFormatCode, pgtype.DateOID: pgx.BinaryFormatCode,
	pgtype.Float4OID: pgx.BinaryFormatCode, pgtype.Float8OID: pgx.BinaryFormatCode, pgtype.Int2OID: pgx.BinaryFormatCode,
	pgtype.Int4OID: pgx.BinaryFormatCode, pgtype.Int8OID: pgx.BinaryFormatCode,
	pgtype.TimestampOID: pgx.BinaryFormatCode, pgtype.TimestamptzOID: pgx.BinaryFormatCode,
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	r := &rows{}
	err := c.session.do(func() error { return r.fill(ctx, c.session.tx, query, args) })
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *rows) fill(ctx context.Context, tx pgx.Tx, query string, args []driver.NamedValue) error {
	pgConn := tx.Conn()
	if pgConn == nil { // the handler has returned
		return pgx.ErrTxClosed
	}
	types := pgConn.TypeMap()
	answer, err := tx.Query(ctx, query, append([]any{inBinary}, values(args)...)...)
	if err != nil {
		return err
	}
	defer answer.Close()
	for _, field := range answer.FieldDescriptions() {
		r.columns = append(r.columns, field.Name)
	}
	for answer.Next() {
		row := make([]driver.Value, len(r.columns))
		for i, raw := range answer.RawValues() {
			if row[i], err = value(types, answer.FieldDescriptions()[i], raw); err != nil {
				return err
			}
		}
		r.values = append(r.values, row)
	}
	return answer.Err()
}

// value converts a column to a driver.Value. raw is in the connection's buffer.
func value(types *pgtype.Map, field pgconn.FieldDescription, raw []byte) (driver.Value, error) {
	t, known := types.TypeForOID(field.DataTypeOID)
	switch {
	case raw == nil:
		return nil, nil //nolint:nilnil // SQL's NULL
	case !known:
		return string(raw), nil
	}
	v, err := t.Codec.DecodeDatabaseSQLValue(types, field.DataTypeOID, field.Format, raw)
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", field.Name, err)
	}
	if bytes, ok := v.([]byte); ok {
		v = slices.Clone(bytes)
	}
	return v, nil
}

func (c *conn) BeginTx(ctx context.Context, options driver.TxOptions) (tx driver.Tx, err error) {
	if options.ReadOnly || options.Isolation != driver.IsolationLevel(sql.LevelDefault) {
		return nil, ErrTxOptions
	}
	s := c.session
	return tx, s.do(func() error {
		inner, err := s.tx.Begin(ctx)
		if err != nil {
			return err
		}
		sp := &savepoint{session: s, tx: inner, given: ctx}
		s.open = append(s.open, sp)
		tx = sp
		return nil
	})
}

// Begin implements driver.Conn. database/sql calls BeginTx instead.
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

// savepoint is the transaction that Begin returns. database/sql ends it without a context.
type savepoint struct {
	session *session
	tx      pgx.Tx
	given   context.Context // the context of Begin
	kept    bool            // the outer savepoint was committed, and this one with it
}

// errEnded reports that a savepoint ended with the outer one, or with its context.
var errEnded = errors.New("sqltx: the transaction has already ended, with the outer one or with its context")

// Commit releases the savepoint: its changes become part of the outer transaction.
func (s *savepoint) Commit() error {
	return s.session.do(func() error {
		i := slices.Index(s.session.open, s)
		if i < 0 {
			return errEnded
		}
		for _, inner := range s.session.open[i+1:] {
			inner.kept = true
		}
		return s.session.end(i, commitOrRollback)
	})
}

// Rollback rolls back everything since Begin. It does nothing if that has already been rolled back, with the savepoint's
// context or with the outer savepoint. It fails if the outer savepoint was committed.
func (s *savepoint) Rollback() error {
	return s.session.do(func() error {
		i := slices.Index(s.session.open, s)
		switch {
		case s.kept:
			return errEnded
		case i < 0:
			return nil
		}
		return s.session.end(i, pgx.Tx.Rollback)
	})
}

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

// Exec and Query implement driver.Stmt. database/sql calls ExecContext and QueryContext instead.
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
