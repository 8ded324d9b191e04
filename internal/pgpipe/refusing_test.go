package pgpipe

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
)

var errOnPurpose = errors.New("on purpose")

// calls are all of pgx.Tx that may fail.
var calls = map[string]func(ctx context.Context, tx pgx.Tx) error{
	"Begin":    func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Begin(ctx); return err },
	"Commit":   func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) },
	"Rollback": func(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) },
	"CopyFrom": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows(nil))
		return err
	},
	"SendBatch": func(ctx context.Context, tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue("SELECT 1")
		return tx.SendBatch(ctx, batch).Close()
	},
	"SendBatch and Exec": func(ctx context.Context, tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue("SELECT 1")
		results := tx.SendBatch(ctx, batch)
		_, err := results.Exec()
		return errors.Join(err, results.Close())
	},
	"SendBatch and Query": func(ctx context.Context, tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue("SELECT 1")
		results := tx.SendBatch(ctx, batch)
		defer results.Close()
		rows, err := results.Query()
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	},
	"SendBatch and QueryRow": func(ctx context.Context, tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue("SELECT 1")
		results := tx.SendBatch(ctx, batch)
		defer results.Close()
		return results.QueryRow().Scan(new(int))
	},
	"Prepare": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Prepare(ctx, "p", "SELECT 1"); return err },
	"Exec":    func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT 1"); return err },
	"Query": func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT 1")
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	},
	"QueryRow": func(ctx context.Context, tx pgx.Tx) error { return tx.QueryRow(ctx, "SELECT 1").Scan(new(int)) },
}

// Each method of a RefusingTx returns its error, and is noticed.
func TestRefusingTx(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	conn, near, _ := b.connect(t, "cache_statement", nil)
	near.take()
	for name, call := range calls {
		tx := (&Tx{conn: conn}).Refuse(errOnPurpose)
		if tx.Used() {
			t.Fatal("a new RefusingTx is used")
		}
		if err := call(t.Context(), tx); !errors.Is(err, errOnPurpose) {
			t.Errorf("%s returns %v", name, err)
		}
		if !tx.Used() {
			t.Errorf("after %s it is not used", name)
		}
	}
	tx := (&Tx{conn: conn}).Refuse(errOnPurpose)
	if tx.Conn() != conn || tx.Used() {
		t.Error("Conn is another, or counts as use")
	}
	_ = tx.LargeObjects()
	if !tx.Used() {
		t.Error("after LargeObjects it is not used")
	}
	results := tx.SendBatch(t.Context(), &pgx.Batch{})
	if results.Tx() != nil {
		t.Error("the refused batch has a transaction")
	}
	if sent := near.take(); len(sent) > 0 {
		t.Errorf("it sent %q", sent)
	}
}

// Run calls a projection with the RefusingTx, which the projection cannot tell from a transaction until it uses it.
func TestRefusingTxRuns(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	conn, _, _ := b.connect(t, "cache_statement", nil)
	tx, err := Begin(t.Context(), conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		fn   func(ctx context.Context, tx pgx.Tx) error
		want error
		used bool
	}{
		"nothing":                   {func(context.Context, pgx.Tx) error { return nil }, nil, false},
		"a statement":               {calls["Exec"], errOnPurpose, true},
		"a statement, swallowed":    {func(ctx context.Context, tx pgx.Tx) error { _ = calls["Exec"](ctx, tx); return nil }, nil, true},
		"an error of the handler's": {func(context.Context, pgx.Tx) error { return context.Canceled }, context.Canceled, false},
	} {
		refusing := tx.Refuse(errOnPurpose)
		if err := refusing.Run(t.Context(), c.fn); !errors.Is(err, c.want) || refusing.Used() != c.used {
			t.Errorf("%s: Run returns %v, want %v; used: %t", name, err, c.want, refusing.Used())
		}
	}
	var kept pgx.Tx
	refusing := tx.Refuse(errOnPurpose)
	_ = refusing.Run(t.Context(), func(_ context.Context, tx pgx.Tx) error { kept = tx; return nil })
	if err := calls["Exec"](t.Context(), kept); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("after Run the transaction returns %v", err)
	}
}
