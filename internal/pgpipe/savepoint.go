package pgpipe

import (
	"context"
	"strconv"
)

// savepoint is the name of a batch's savepoint number i. Each event has a name of its own, so that a rollback never reaches
// the savepoint of an event before it.
func savepoint(i int) string { return "stripeonce_event_" + strconv.Itoa(i) }

// Savepoint begins savepoint number i.
func Savepoint(i int) Query { return simple("SAVEPOINT " + savepoint(i)) }

// ReleaseSavepoint ends savepoint number i, and those that were begun in it, and keeps what was done.
func ReleaseSavepoint(i int) Query { return simple("RELEASE SAVEPOINT " + savepoint(i)) }

func simple(sql string) Query {
	return func(ctx context.Context, db DBTX) error {
		_, err := db.Exec(ctx, sql)
		return Wrap(sql, err)
	}
}

// RollbackToSavepoint undoes everything since savepoint number i, settings and row locks, too, also where a statement has
// failed. It returns an error if there is no such savepoint.
func (t *Tx) RollbackToSavepoint(ctx context.Context, i int) error {
	t.takePrepended() // the settings are those of before
	sql := "ROLLBACK TO SAVEPOINT " + savepoint(i)
	_, err := t.tx.Exec(ctx, sql)
	return Wrap(sql, err)
}
