// Package echov5 mounts a receiver and the console in an Echo v5 application.
//
//	echov5.Mount(e, "/webhooks/stripe", receiver)
//	echov5.MountConsole(e.Group("/admin/stripe", requireAdmin), console.New(pool, receiver, nil))
//
// # Middleware
//
// Middleware before the receiver must not change the body, since the signature covers its bytes. Exempt the route from
// middleware that authenticates or checks CSRF tokens: Stripe has neither.
package echov5
