package pgpipe

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// RefusingTx is a pgx.Tx on which everything fails with one error.
type RefusingTx struct{ refusingTx }

// Refuse returns a RefusingTx for a projection that runs in a batch.
func (t *Tx) Refuse(err error) *RefusingTx {
	return &RefusingTx{refusingTx{err: err, conn: t.conn}}
}

// Used reports whether something was tried.
func (tx *RefusingTx) Used() bool { return tx.used }

// Run is Tx.Run with the RefusingTx in place of the transaction.
func (tx *RefusingTx) Run(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return (&guard{}).run(ctx, tx, tx.conn, fn)
}

// refusingTx has the methods of pgx.Tx.
type refusingTx struct {
	err  error
	conn *pgx.Conn
	used bool
}

func (tx *refusingTx) refuse() error {
	tx.used = true
	return tx.err
}

func (tx *refusingTx) Begin(context.Context) (pgx.Tx, error) { return nil, tx.refuse() }

func (tx *refusingTx) Commit(context.Context) error { return tx.refuse() }

func (tx *refusingTx) Rollback(context.Context) error { return tx.refuse() }

func (tx *refusingTx) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, tx.refuse()
}

func (tx *refusingTx) SendBatch(context.Context, *pgx.Batch) pgx.BatchResults {
	return refusedResults{tx.refuse()}
}

func (tx *refusingTx) LargeObjects() pgx.LargeObjects {
	_ = tx.refuse()
	return pgx.LargeObjects{}
}

func (tx *refusingTx) Prepare(context.Context, string, string) (*pgconn.StatementDescription, error) {
	return nil, tx.refuse()
}

func (tx *refusingTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, tx.refuse()
}

func (tx *refusingTx) Query(context.Context, string, ...any) (pgx.Rows, error) {
	err := tx.refuse()
	return failedRows{err}, err
}

func (tx *refusingTx) QueryRow(context.Context, string, ...any) pgx.Row { return failing{tx.refuse()} }

func (tx *refusingTx) Conn() *pgx.Conn { return tx.conn }

type refusedResults struct{ err error }

func (r refusedResults) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, r.err }

func (r refusedResults) Query() (pgx.Rows, error) { return failedRows(r), r.err }

func (r refusedResults) QueryRow() pgx.Row { return failing(r) }

func (r refusedResults) Close() error { return r.err }

func (r refusedResults) Tx() pgx.Tx { return nil }

// failedRows are the rows of a query that failed: a caller of pgx's may ignore the error of Query, and use the rows.
type failedRows struct{ err error }

func (r failedRows) Close() {}

func (r failedRows) Err() error { return r.err }

func (r failedRows) CommandTag() pgconn.CommandTag { return pgconn.CommandTag{} }

func (r failedRows) FieldDescriptions() []pgconn.FieldDescription { return nil }

func (r failedRows) Next() bool { return false }

func (r failedRows) Scan(...any) error { return r.err }

func (r failedRows) Values() ([]any, error) { return nil, r.err }

func (r failedRows) RawValues() [][]byte { return nil }

func (r failedRows) Conn() *pgx.Conn { return nil }

func (r failedRows) TypeMap() *pgtype.Map { return nil }
