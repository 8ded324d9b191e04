// Package webhooks receives Stripe's webhook deliveries and makes each event take effect in PostgreSQL exactly once.
//
//	h := webhooks.NewHandlers()
//	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, inv *stripe.Invoice) error {
//		_, err := tx.Exec(ctx, "UPDATE …")
//		return err
//	})
//	receiver, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{secret}})
//	http.Handle("POST /webhooks/stripe", receiver)
//
// Packages echov4 and echov5 mount a [Receiver] on Echo, and package sqltx gives a handler database/sql. Package schema/migrate creates
// the tables. Package webhookstest helps to test handlers.
//
// # How a delivery is processed
//
//  1. Verify: the Receiver checks the signature and parses the event.
//  2. Check: it begins a transaction and looks the event's id up in the ledger, the table stripe_webhook_events. A known event is a
//     duplicate: it is answered 200, and nothing is written.
//  3. Process: it runs the handlers that are registered for the event's type, with the transaction.
//  4. Record: it inserts the event into the ledger and commits.
//
// When several processes receive the same event at once, the lock of its Stripe object lets one go first, and the others find its row.
// The ledger's unique index is the backstop: the transaction that loses is rolled back and answered 200.
//
// # What a handler may rely on
//
// A handler runs inside the delivery's transaction. If it returns an error or panics, the transaction is rolled back, the response is
// 500, the failure is recorded in the table stripe_webhook_failures, and Stripe retries. Commit and Rollback on its transaction are
// refused. Events of one Stripe object run one after the other, across processes too. A handler may run more than once (after a
// serialization failure, a deadlock, a lost race): only what it does through its transaction takes effect exactly once.
//
// # Projections
//
// A projection is a handler that keeps rows equal to Stripe's objects. Packages subscriptions, mirror and entitlements register
// projections; [Project] registers one of your own. When only projections ran for an event and none changed a row, the outcome is
// [OutcomeStale].
//
// # Responses
//
//	200  the event took effect, is ignored, is parked or is a duplicate
//	400  the signature is wrong, or the body is not a Stripe event
//	404  Config.AccountFor knows no such account
//	405  another method than POST
//	413  the body is too large
//	500  the event failed: its handler's error, data that a table refuses; recorded, and retried by Stripe
//	503  the infrastructure failed: no connection, no lock in time, not migrated; retried by Stripe
package webhooks

// Where to begin reading: serve.go verifies a delivery. apply.go takes an event from admission to its result; attempts.go
// retries. transaction.go checks, processes and records; batch.go decides which events share a transaction. ledger.go has the
// ledger's queries. docs/how-it-works.md has the whole map.
