// Package webhookstest helps to test your handlers. It builds events, signs them, and delivers them to your application as
// Stripe does: with duplicates, some at the same instant, out of order, and with retries until a 2xx.
//
// # In a test
//
// Your test brings its own database, migrated by schema/migrate or dbmate.
//
//	app := newApp(pool) // your Echo, or any http.Handler, with the receiver mounted and webhookstest.Secret
//	stripe := webhookstest.New(t, app, "/webhooks/stripe", webhookstest.Secret)
//	stripe.Expect(webhookstest.Event{Type: "invoice.paid", Object: invoice}, webhooks.OutcomeProcessed)
//	stripe.Storm(events...)
//
// # Alone
//
// [Event.Body] and [Sign] make a delivery for a client of your own.
package webhookstest
