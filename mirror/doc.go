// Package mirror keeps copies of Stripe's objects (customers, invoices, prices and so on) in PostgreSQL, in the table stripe_objects.
// Each row matches Stripe's object, whatever the order and number of its events. Subscriptions have tables of their own: see package
// subscriptions.
//
// Register it with the handlers of a receiver:
//
//	h := webhooks.NewHandlers()
//	mirror.Register(h, &mirror.Config{Types: mirror.Billing})
//	receiver, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{secret}})
//
// # Reading
//
// [Get] and [List] decode objects into a struct, such as one of stripe-go:
//
//	inv, err := mirror.Get[stripe.Invoice](ctx, pool, "in_1")
//	open, err := mirror.List[stripe.Invoice](ctx, pool, mirror.Filter{Customer: "cus_1", Status: "open"})
//
// For SQL and sqlc, the views stripe_customers, stripe_invoices, stripe_charges and so on have the objects' fields as typed columns,
// whatever the objects' API version.
//
// # Reacting to changes
//
// Config.OnChange is called for each change of an object, with the object before and after, in the transaction that writes the row.
//
// # Importing and comparing
//
// [Verify] compares the rows with Stripe's API, and with VerifyConfig.Fix stores Stripe's objects. [Jobs] is for
// operations.Operator.Backfill, which imports what exists at Stripe, and for operations.Operator.VerifyEvery, which compares in the
// background.
//
// # What is stored
//
// The whole object is stored as Stripe rendered it, in the API version of the event, without members named client_secret or secret. A
// deletion sets a flag and never removes the row. Where an event has only a part of a list, such as the first lines of an invoice, the
// rest is fetched with webhooks.Config.APIKey; without a key, the row is marked as incomplete.
package mirror
