// Package entitlements says which features a customer may use now: the active entitlements of Stripe Billing
// (https://docs.stripe.com/billing/entitlements), kept equal to Stripe's whatever the order and number of its events.
//
//	entitlements.Register(h, nil)
//	…
//	may, err := entitlements.New(pool).Has(ctx, "cus_1", "audit-log")
//
// # What is stored
//
// The summary of each customer is a row of stripe_objects, as package mirror stores it, and the view stripe_entitlements has a row
// for each active entitlement. STRIPEONCE_MIRROR=entitlements makes stripeonce serve keep them.
//
// # Order and completeness
//
// An event of a summary has at most ten entitlements and no previous attributes, so that nothing orders two events of one second.
// With Config.APIKey of the receiver, all entitlements are therefore fetched for each event. Without a key, a summary that goes
// on, or two different ones of one second, leave the customer incomplete: [Reader.Has] then returns [ErrIncomplete] for what it does
// not know.
//
// # Changes of the catalog
//
// Stripe creates no event where a feature is attached to a product or detached from it. operations.Operator.VerifyEvery compares the
// customers with Stripe in the background.
package entitlements
