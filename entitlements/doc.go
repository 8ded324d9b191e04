// Package entitlements answers which features a customer may use now, from a copy of Stripe's active entitlements in PostgreSQL
// (https://docs.stripe.com/billing/entitlements). The copy matches Stripe, whatever the order and number of its events.
//
//	h := webhooks.NewHandlers()
//	entitlements.Register(h, nil)
//	receiver, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{secret}, APIKey: key})
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
// With Config.APIKey of the receiver, all entitlements are therefore fetched for each event. Without a key, a summary with more
// entitlements, or two different summaries of one second, leave the customer incomplete: [Reader.Has] then returns [ErrIncomplete]
// for what it does not know.
//
// # Changes of the catalog
//
// Stripe creates no event when a feature is attached to a product or detached from it. Compare the customers with Stripe in the
// background: operations.Operator.VerifyEvery with mirror.Jobs.
package entitlements
