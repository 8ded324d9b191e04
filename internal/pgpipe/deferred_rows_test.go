package pgpipe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgtest"
)

// Rows of a shared round trip behave as pgx's: an error in the middle of them, a failed Scan, and rows that are left open.
func TestDeferredRows(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	exec(t, conn, `CREATE TABLE deferred (n int)`)
	for name, c := range map[string]struct {
		fn   func(ctx context.Context, tx pgx.Tx) error
		want string
	}{
		"an error in the middle": {func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT 1 / (3 - n) FROM generate_series(1, $1::int) AS n`, 5)
			if err != nil {
				return err
			}
			list, err := pgx.CollectRows(rows, pgx.RowTo[int])
			if len(list) > 0 {
				return fmt.Errorf("%d rows were read: %w", len(list), err)
			}
			return err
		}, "22012"},
		"a failed Scan": {func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, seen, 0)
			if err != nil {
				return err
			}
			for rows.Next() {
				_ = rows.Scan(new(bool))
			}
			return rows.Err()
		}, "can't scan into dest[0]"},
		"no row": {func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT n FROM deferred WHERE n > $1`, 10).Scan(new(int))
		}, pgx.ErrNoRows.Error()},
		"rows left open": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Query(ctx, seen, 0) //nolint:sqlclosecheck // on purpose
			return err
		}, errRowsLeftOpen.Error()},
		"a row left unread": {func(ctx context.Context, tx pgx.Tx) error {
			tx.QueryRow(ctx, seen, 0)
			return nil
		}, errRowsLeftOpen.Error()},
	} {
		tx := begun(t, conn)
		var writes Writes
		writes.Add(inserting(1), inserting(2))
		_, err := tx.Run(t.Context(), false, &writes, c.fn)
		if err == nil || fault.Code(err) != c.want && !strings.Contains(err.Error(), c.want) || errors.As(err, new(*OwnError)) {
			t.Errorf("%s: the error is %v, want %s", name, err, c.want)
		}
		tx.Rollback(t.Context(), pgtest.WaitLimit)
		if conn.IsClosed() { // rows left open: pgx gives up the connection
			conn = connect(t, conn.Config().ConnString(), nil)
		}
	}
}
