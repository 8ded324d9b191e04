// Package subscriptions keeps one row for each Stripe subscription, equal to Stripe's own state, in whatever order its events
// arrive. It is a projection of the customer.subscription.* events that package webhooks makes take effect.
//
//	h := webhooks.NewHandlers()
//	subscriptions.Register(h, &subscriptions.Config{OnChange: onChange})
//
//	sub, err := subscriptions.New(pool).Current(ctx, customerID)
//
// # Order
//
// Stripe promises no order, and an event's time has whole seconds. The row has the state of the newest second. Within one
// second, the previous attributes of its events tell which is the last. Where they do not, the subscription is fetched from
// Stripe, if there is an API key, or a tie-break decides, which gives the same in every order of arrival. A terminal status
// (canceled, incomplete_expired) is never undone. docs/ordering.md explains it.
//
// # Reacting to a change
//
// [Config].OnChange is called once for each real change of a subscription, in the transaction that writes the row, with the
// state before and after. It is not called for a duplicate, an event that is older than the row, or one that changes
// nothing.
//
// # Verifying
//
// [Verify] compares every row with Stripe's current object, both ways, and stores Stripe's where they differ. It is also the
// first import.
package subscriptions
