// Package stripesim simulates a Stripe account: its subscriptions and their life cycles, with their customers, products, prices,
// invoices, payments and entitlements, the events that Stripe would create, in the shapes of its API, their delivery in disorder,
// and the API itself. Everything but the time of a response is determined by a seed. It needs neither an account nor a network, and
// tests a receiver that is written in any language.
//
// # An account and its clock
//
// [New] returns an empty [Account] with a clock of its own, [Account.Now], which [Account.Wait] advances. The methods of a
// [Subscription] change it as Stripe would and create the events of the change. [Account.Play] plays life cycles, which are
// values: a [Scenario] of your own, or one of [Scenarios]. [Account.Live] draws them.
//
// # Customers, invoices, payments and the other objects of billing
//
// Each subscription has a customer, a price and a product that were created before it, and each renewal or failed payment is an
// [Invoice] with its life cycle: draft, open, paid, uncollectible or void. There are events of its payments. With [Account.Billing],
// there are all events of all these objects, many of one second, and [Account.Live] also changes the others by themselves: a
// [Customer] moves, a [Price] takes over another's lookup key, a deleted [Product] is created again under its id. Their methods make
// such changes one by one. So it is with [PaymentIntent], [Charge], [Refund], [Dispute], [PaymentMethod], [SetupIntent],
// [CheckoutSession], [CreditNote], [Schedule], [Coupon], [PromotionCode], [TaxID] and [Payout]. No event carries a balance transaction,
// so there are none. A seed gives subscriptions the same events with and without it, except for their latest invoices.
//
// # Entitlements
//
// Products have features ([Account.AttachFeature]), and [Customer.Entitlements] are those of the products of the customer's active,
// trialing and past due subscriptions. With [Account.Billing], each change of them by a subscription makes an event with the first
// ten. Its thin form names no object. A change of the catalog makes none, as at Stripe: only the API has it.
//
// # Deliveries
//
// A [Storm] plans the deliveries of events: out of order, and with duplicates. A [Deliverer] makes them: signed, several at once,
// and again until the response is a 2xx. A plan is the same for the same seed and events, but a retry comes when its pause is over, as
// at Stripe. [Report] says what was answered.
//
// # All together
//
// A [Simulation] does what the command stripeonce simulate does. The same values make the same deliveries.
//
// # The API
//
// [NewAPI] returns an [http.Handler] with the account's events and objects, for a receiver that fetches from Stripe. During the
// deliveries it is as of the newest event whose delivery has begun, so that a receiver that fetches too early is found.
//
// # The truth
//
// What a receiver's tables should hold in the end is in [Subscription.Truth], and for every type of object in [Account.Objects] and
// [WriteTruth], from the account's own state and not from events.
package stripesim
