// Package webhookstest has helpers for tests of your handlers. It builds events, signs them, and delivers them to your application as
// Stripe does: with duplicates, some at the same instant, out of order, and with retries until a 2xx.
//
// # A test
//
// [Database] creates a database with stripeonce's tables and yours. [New] serves your application, any http.Handler that has the
// receiver mounted with [Secret] as its signing secret.
//
//	func TestCredits(t *testing.T) {
//		pool := webhookstest.Database(t, os.Getenv("DATABASE_URL"), `CREATE TABLE credits (customer_id text, cents bigint)`)
//		stripe := webhookstest.New(t, newApp(t, pool), "/webhooks/stripe", webhookstest.Secret)
//		paid := webhookstest.Event{ID: "evt_1", Type: "invoice.paid", Object: webhookstest.Invoice{CustomerID: "cus_1", AmountDue: 500}}
//		stripe.Expect(paid, webhooks.OutcomeProcessed)
//		stripe.Storm(paid)
//		// now check that your table has one credit
//	}
//
// A delivery that fails shows the error that your handler returned, although no other response has it: see [Reply].
//
// # Events
//
// The Object of an [Event] is a [Subscription], [Invoice] or [CheckoutSession], which are rendered in the event's API version, or
// a value of your own. [Subscription.Update] makes the events of a subscription's updates, with their previous attributes.
// [ThinEvent] is a thin event, and [Event.Thin] the thin twin of an event.
//
// # Storms and life cycles
//
// [Stripe.Storm] delivers your events as Stripe does on its worst day. [Stripe.Simulate] does so with whole life cycles of
// subscriptions, which package stripesim plays. Compare your tables afterwards with the account's truth. The same
// simulation makes the account, which the API serves to receivers that fetch objects:
//
//	simulation := stripesim.Simulation{Seed: 7, Subscriptions: 20, Storm: stripesim.Wild}
//	account := simulation.NewAccount()
//	api := webhookstest.NewAPI(t, account) // for webhooks.Config: APIBase: api.URL, APIKey: webhookstest.APIKey
//	stripe.Simulate(api, simulation)
//	for _, sub := range account.Subscriptions {
//		want := sub.Truth() // status, price, period, items, …
//	}
//
// # Parked events, accounts, fetched objects
//
// [Stripe.Replay] applies an event that webhooks.Park has parked. [Stripe.Connected] delivers the events of a connected account,
// and [Stripe.At] those of a tenant with a route and a secret of its own (webhooks.Config.AccountFor). [NewAPI] serves the
// objects that a receiver fetches (thin events, webhooks.Fetch): those of a simulated account, or those that you set.
//
// # Your own client
//
// [Event.Body] and [Sign] make a delivery for a client of your own.
package webhookstest
