// Package echov4 mounts a receiver and the console in an Echo v4 application.
//
//	echov4.Mount(e, "/webhooks/stripe", receiver)
//	echov4.MountConsole(e.Group("/admin/stripe", requireAdmin), console.New(pool, receiver, nil))
//
// # Middleware
//
// Middleware before the receiver must not change the body, since the signature covers its bytes. Exempt the route from
// middleware that authenticates or checks CSRF tokens: Stripe has neither.
package echov4
