// Package reason tells a test in the receiver's process why a delivery was not accepted, which no response says.
package reason

import "context"

type key struct{}

// With returns a context in which Note keeps an error at err.
func With(ctx context.Context, err *error) context.Context { return context.WithValue(ctx, key{}, err) }

// Note keeps why a delivery is not accepted, if a test wants to know. Nil: it is.
func Note(ctx context.Context, err error) {
	if at, ok := ctx.Value(key{}).(*error); ok {
		*at = err
	}
}
