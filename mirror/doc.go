// Package mirror keeps Stripe's objects of any type in the table stripe_objects, equal to Stripe's, whatever the order, the
// number and the interleaving of their events. It gives customers, invoices, prices and every other type the guarantee that
// package subscriptions gives subscriptions, which have tables of their own and are not mirrored here.
//
//	mirror.Register(h, &mirror.Config{Types: mirror.Billing})
//
// # Reading
//
// [Get] and [List] decode objects into a struct, such as one of stripe-go:
//
//	inv, err := mirror.Get[stripe.Invoice](ctx, pool, "in_1")
//	open, err := mirror.List[stripe.Invoice](ctx, pool, mirror.Filter{Customer: "cus_1", Status: "open"})
//
// The views stripe_customers, stripe_invoices, stripe_charges and so on have the objects' members as typed columns, whatever their
// API version, for SQL and sqlc.
//
// # Changes
//
// [Config].OnChange is called for each change, in the transaction that writes it, with the object before and after.
//
// # What is stored
//
// The whole object as Stripe rendered it, in the API version of the event, without members named client_secret or secret. A
// deletion sets a flag and never removes the row. Where an event has only a part of a list, such as the first lines of an
// invoice, the rest is fetched with Config.APIKey of the receiver; without one the row is marked as incomplete.
package mirror
