// Package sqltx lets a handler use database/sql in its event's transaction, and so GORM, ent, sqlx, or the code that sqlc generates for
// database/sql.
//
//	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
//		db := sqltx.Open(tx)
//		defer db.Close()
//		_, err := db.ExecContext(ctx, `UPDATE accounts SET paid = paid + $1 WHERE customer_id = $2`, inv.AmountPaid, inv.Customer.ID)
//		return err
//	})
//
// # Why not your own *sql.DB
//
// Your own *sql.DB uses another connection and so another transaction. Its writes would stay if the event is rolled back, and the
// retry would repeat them.
//
// # Nested transactions
//
// Begin sets a savepoint, Commit releases it, and Rollback rolls back to it. The receiver commits the event's transaction.
package sqltx
