// Package subscriptions keeps a row for each Stripe subscription, and one for each of its items, in PostgreSQL. The rows match Stripe's
// state, whatever the order and number of the events.
//
// Register it with the handlers of a receiver, and read from anywhere:
//
//	h := webhooks.NewHandlers()
//	subscriptions.Register(h, &subscriptions.Config{OnChange: onChange})
//	receiver, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{secret}})
//	…
//	sub, err := subscriptions.New(pool).Current(ctx, customerID)
//
// # Reacting to a change
//
// Config.OnChange is called once for each change of a subscription, in the transaction that writes the row, with the state before and
// after. It is not called for a duplicate, an event that is older than the row, or an event that changes nothing.
//
// # Order
//
// Stripe promises no order, and an event's time has whole seconds. The row has the state of the newest second. Within one second, the
// previous attributes of the events tell which is the last. Where they do not, the subscription is fetched from Stripe if there is an
// API key (webhooks.Config.APIKey); otherwise a tie-break decides, with the same result in every order of arrival. A terminal status
// (canceled, incomplete_expired) is never undone. The repository's docs/ordering.md has the details.
//
// # Importing and comparing
//
// [Verify] compares every row with Stripe's current object, in both directions, and with VerifyConfig.Fix stores Stripe's object where
// they differ. [NewJob] is for operations.Operator.Backfill, which imports the subscriptions that exist at Stripe.
package subscriptions
