// Package console is a web page that shows a receiver at work: what arrives and its outcomes, the ledger, the failures with
// a button that replays them, the subscriptions, and the objects that package mirror keeps. A customer's page has everything
// of the customer, the runs of the operator's commands are listed with their progress, and a search leads from any id to its page.
// With an API key it compares objects with Stripe, fetches them, and applies events that never arrived. The server renders it. It needs
// no JavaScript and loads nothing from other servers.
//
// # Mounting
//
// A [Console] is an http.Handler. Mount it behind your own authentication: it shows customers' data and makes events take
// effect. It finds its base path by itself.
//
//	pages := console.New(pool, receiver, &console.Config{HidePayloads: true})
//	defer pages.Close()
//	http.Handle("/admin/stripe/", requireAdmin(http.StripPrefix("/admin/stripe", pages)))
//
// In Echo, packages webhooks/echov4 and webhooks/echov5 mount it.
//
// # Security
//
// What it does begins with a POST that the console only accepts from its own pages: a page of another site cannot cause it.
// Config.ReadOnly is for users who may only look. Each run is recorded with Config.User.
package console
