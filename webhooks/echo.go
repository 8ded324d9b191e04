package webhooks

import "github.com/labstack/echo/v4"

// EchoRouter is what Mount needs of Echo v4: both *echo.Echo and *echo.Group have it.
type EchoRouter interface {
	Any(path string, handler echo.HandlerFunc, middleware ...echo.MiddlewareFunc) []*echo.Route
}

// Mount adds the receiver to an Echo application at path. It takes every method, so that it can answer
// other ones than POST as the contract of the route says, and writes every reply itself, so that the
// application's error handler cannot turn a failure into a 200.
//
// Middleware before it must leave the body as it came: the signature is over its bytes.
func (r *Receiver) Mount(router EchoRouter, path string) {
	router.Any(path, func(c echo.Context) error {
		r.ServeHTTP(c.Response(), c.Request())
		return nil
	})
}
