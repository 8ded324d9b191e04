package pgpipe

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// RefusingTx is a pgx.Tx on which everything fails with one error.
type RefusingTx struct {
	err  error
	conn *pgx.Conn
	used bool
}

// Refuse returns a RefusingTx for a projection that runs in a batch.
func (t *Tx) Refuse(err error) *RefusingTx { return &RefusingTx{err: err, conn: t.conn} }

// Used reports whether something was tried.
func (tx *RefusingTx) Used() bool { return tx.used }

// Run is Tx.Run with the RefusingTx in place of the transaction.
func (tx *RefusingTx) Run(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return (&guard{}).run(ctx, tx, tx.conn, fn)
}

// Send refuses queries.
func (tx *RefusingTx) Send(context.Context, []Query) error { return tx.refuse() }

func (tx *RefusingTx) refuse() error {
	tx.used = true
	return tx.err
}

// Begin is refused.
func (tx *RefusingTx) Begin(context.Context) (pgx.Tx, error) { return nil, tx.refuse() }

// Commit is refused.
func (tx *RefusingTx) Commit(context.Context) error { return tx.refuse() }

// Rollback is refused.
func (tx *RefusingTx) Rollback(context.Context) error { return tx.refuse() }

// CopyFrom is refused.
func (tx *RefusingTx) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, tx.refuse()
}

// SendBatch is refused.
func (tx *RefusingTx) SendBatch(context.Context, *pgx.Batch) pgx.BatchResults {
	return refusedResults{tx.refuse()}
}

// LargeObjects is refused.
func (tx *RefusingTx) LargeObjects() pgx.LargeObjects {
	_ = tx.refuse()
	return pgx.LargeObjects{}
}

// Prepare is refused.
func (tx *RefusingTx) Prepare(context.Context, string, string) (*pgconn.StatementDescription, error) {
	return nil, tx.refuse()
}

// Exec is refused.
func (tx *RefusingTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, tx.refuse()
}

// Query is refused.
func (tx *RefusingTx) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return nil, tx.refuse()
}

// QueryRow is refused.
func (tx *RefusingTx) QueryRow(context.Context, string, ...any) pgx.Row { return failing{tx.refuse()} }

// Conn returns the connection, and does not count as use.
func (tx *RefusingTx) Conn() *pgx.Conn { return tx.conn }

type refusedResults struct{ err error }

func (r refusedResults) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, r.err }

func (r refusedResults) Query() (pgx.Rows, error) { return nil, r.err }

func (r refusedResults) QueryRow() pgx.Row { return failing(r) }

func (r refusedResults) Close() error { return r.err }

func (r refusedResults) Tx() pgx.Tx { return nil }
