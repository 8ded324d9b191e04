package webhooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
)

// session is what a transaction in which handlers run began with. A handler may change the settings that the receiver's
// own statements depend on (SET LOCAL search_path, SET ROLE), or end the transaction and begin another (COMMIT AND
// CHAIN): so before the next statement of the receiver's own the settings are restored, in the same round trip, and the
// statement that does so fails if the transaction is another.
type session struct {
	began   db.ServerTransactionOpenRow
	open    bool
	foreign bool // a handler has run since the settings were last right
}

var errChained = errors.New("it ended the transaction with a statement of its own (COMMIT or ROLLBACK AND CHAIN): " +
	"what it committed cannot be undone")

// writable refuses a transaction that cannot write before any handler runs in it. From here on, one that has become
// read-only was made so by a handler.
func (s *session) writable() error {
	if s.open && s.began.ReadOnly {
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrReadOnly)
	}
	return nil
}

// openSession is the first statement of a transaction in which handlers run.
func (t *transaction) openSession(ctx context.Context, db db.DBTX) (err error) {
	t.session.began, err = t.receiver.queries.ServerTransactionOpen(ctx, db, milliseconds(t.lockTimeout(ctx)), t.lock)
	t.session.open, t.locked = err == nil, t.session.began.Locked
	return ledgerError("open the transaction", err)
}

// restoreSession comes before the receiver's own statements when a handler has run.
func (t *transaction) restoreSession(ctx context.Context, dbtx db.DBTX) error {
	began := &t.session.began
	err := t.receiver.queries.ServerTransactionRestore(ctx, dbtx, db.ServerTransactionRestoreParams{
		Began: began.Began, LockTimeout: milliseconds(t.lockTimeout(ctx)),
		SessionAuthorization: began.SessionAuthorization, Role: began.Role, SearchPath: began.SearchPath,
		RowSecurity: began.RowSecurity, ClientEncoding: began.ClientEncoding, DateStyle: began.DateStyle,
		StatementTimeout: began.StatementTimeout, SynchronousCommit: began.SynchronousCommit,
	})
	if !errors.Is(err, ErrNoted) && fault.Code(err) == fault.InvalidText {
		return fault.InHandler(t.work.delivered.Type, errChained)
	}
	return ledgerError("restore the settings that a handler changed", err)
}

// restored puts restoreSession before statements where a handler has run since the settings were last right. It goes
// ahead in a round trip of its own where one of them would be parsed before it runs: by what the handler set, such as
// search_path, PostgreSQL would not find the tables. isParsed says which will not.
func (t *transaction) restored(ctx context.Context, statements []Statement, isParsed func(sql string) bool) ([]Statement, error) {
	if !t.session.foreign {
		return statements, nil
	}
	t.session.foreign = false
	first := []Statement{t.restoreSession}
	inOrder := t.receiver.mode == pgx.QueryExecModeExec || t.receiver.mode == pgx.QueryExecModeSimpleProtocol
	if inOrder || allParsed(ctx, statements, isParsed) {
		return append(first, statements...), nil
	}
	return statements, t.send(ctx, first)
}

func allParsed(ctx context.Context, statements []Statement, isParsed func(sql string) bool) bool {
	batch := &pgx.Batch{}
	note(ctx, (*noted)(batch), statements)
	return !slices.ContainsFunc(batch.QueuedQueries, func(query *pgx.QueuedQuery) bool { return !isParsed(query.SQL) })
}

// sendOwn sends statements of the receiver's own in one round trip, and has the answers read.
func (t *transaction) sendOwn(ctx context.Context, statements []Statement) error {
	isParsed := parsedOn(t.conn).byBatch
	if t.receiver.mode == pgx.QueryExecModeDescribeExec { // which parses each statement anew, before any of them runs
		isParsed = func(string) bool { return false }
	}
	statements, err := t.restored(ctx, statements, isParsed)
	if err != nil || len(statements) == 0 {
		return err
	}
	return t.send(ctx, statements)
}

func (t *transaction) send(ctx context.Context, statements []Statement) error {
	batch := &pgx.Batch{}
	note(ctx, (*noted)(batch), statements)
	if err := read(ctx, t.tx.SendBatch(ctx, batch), statements); err != nil {
		parsedOn(t.conn).forget() // as pgx does with what failed
		return err
	}
	parsedOn(t.conn).add(batch, false)
	return nil
}

// parsed are the texts of the statements that a connection has parsed and keeps: true for those that it knows by their
// text, as the last round trip needs it, false for those in pgx's cache.
type parsed map[string]bool

// parsedKey is where a connection's CustomData has them.
const parsedKey = "stripeonce.parsed"

func parsedOn(conn *pgx.Conn) parsed {
	data := conn.PgConn().CustomData()
	p, ok := data[parsedKey].(parsed)
	if !ok {
		p = parsed{}
		data[parsedKey] = p
	}
	return p
}

func (p parsed) add(batch *pgx.Batch, byText bool) {
	for _, query := range batch.QueuedQueries {
		p[query.SQL] = p[query.SQL] || byText
	}
}

func (p parsed) forget() {
	maps.DeleteFunc(p, func(_ string, byText bool) bool { return !byText })
}

func (p parsed) byText(sql string) bool { return p[sql] }

func (p parsed) byBatch(sql string) bool {
	_, ok := p[sql]
	return ok
}
