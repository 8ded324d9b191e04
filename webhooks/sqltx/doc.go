// Package sqltx lets a handler use database/sql in its event's transaction, for a host whose code uses database/sql: with
// GORM, ent, sqlx, or sqlc's output for database/sql.
//
//	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
//		db := sqltx.Open(tx)
//		defer db.Close()
//		_, err := db.ExecContext(ctx, `UPDATE accounts SET paid = paid + $1 WHERE customer_id = $2`, inv.AmountPaid, inv.Customer.ID)
//		return err
//	})
//
// # Why not a *sql.DB of the host's
//
// A *sql.DB of the host would use another connection and so another transaction. Its writes would stay if the event is
// rolled back, and the retry would repeat them.
//
// # Transactions in the transaction
//
// Begin sets a savepoint, Commit releases it, and Rollback rolls back to it. The receiver commits the event's transaction.
package sqltx
