package webhooks

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// refusingTx is a transaction in which nothing can be done.
type refusingTx struct {
	err   error
	conn  *pgx.Conn
	asked bool // something was tried all the same
}

func (tx *refusingTx) refuse() error {
	tx.asked = true
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
	return nil, tx.refuse()
}

func (tx *refusingTx) QueryRow(context.Context, string, ...any) pgx.Row { return failed{tx.refuse()} }

func (tx *refusingTx) Conn() *pgx.Conn { return tx.conn }

type refusedResults struct{ err error }

func (r refusedResults) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, r.err }

func (r refusedResults) Query() (pgx.Rows, error) { return nil, r.err }

func (r refusedResults) QueryRow() pgx.Row { return failed(r) }

func (r refusedResults) Close() error { return r.err }

func (r refusedResults) Tx() pgx.Tx { return nil }
