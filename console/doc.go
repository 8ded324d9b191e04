// Package console is a web console for operators: it shows deliveries, events, failures and the stored objects, and lets a person replay
// failed events. It is an http.Handler that you mount in your application, behind your own authentication.
//
//	pages := console.New(pool, receiver, &console.Config{HidePayloads: true})
//	defer pages.Close()
//	http.Handle("/admin/stripe/", requireAdmin(http.StripPrefix("/admin/stripe", pages)))
//
// In Echo, packages webhooks/echov4 and webhooks/echov5 mount it. The console finds its base path by itself. The server renders the
// pages, which need no JavaScript and load nothing from other servers.
//
// # Pages
//
// The overview begins with what needs attention. There are pages for the ledger, for failures by type and error, for runs with their
// progress, for subscriptions and mirrored objects, and for each event, object and customer. A search leads from any id to its page.
//
// Buttons replay, dismiss and reprocess events. With Config.APIKey the console also compares objects with Stripe, fetches them, and
// applies events that never arrived.
//
// # Security
//
// The console does not authenticate. It shows customers' data (Config.HidePayloads hides most of it) and makes events take effect. Every
// action is a POST that the console accepts only from its own pages, so another site cannot cause one. Config.ReadOnly is for users who
// may only look. Each run is recorded with the name that Config.User returns.
package console
