package echov5

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v5"

	"github.com/pook/stripeonce/internal/mount"
	"github.com/pook/stripeonce/webhooks"
)

// Router has the methods of *echo.Echo and *echo.Group that the functions need.
type Router interface {
	Any(path string, handler echo.HandlerFunc, middleware ...echo.MiddlewareFunc) echo.RouteInfo
}

// Mount adds the receiver to an Echo application at path. It handles every method and answers methods other than POST with
// 405. It writes every reply itself, so that the application's error handler cannot turn a failure into a 200.
//
// Middleware before it must not change the body, since the signature covers its bytes. A body that exceeds Echo's BodyLimit
// is answered 413.
func Mount(router Router, path string, r *webhooks.Receiver) {
	router.Any(path, func(c *echo.Context) error {
		req := c.Request()
		req.Body = mount.Body(req.Body, tooLarge)
		r.ServeHTTP(c.Response(), req)
		return nil
	})
}

func tooLarge(err error) bool { return errors.Is(err, echo.ErrStatusRequestEntityTooLarge) }

// MountConsole adds a console (or any handler of pages) to a group, such as e.Group("/admin/stripe", requireAdmin). It does
// not authenticate.
func MountConsole(router Router, console http.Handler) {
	serve := func(c *echo.Context) error {
		console.ServeHTTP(c.Response(), mount.Below(c.Request(), c.Path()))
		return nil
	}
	router.Any("", serve)
	router.Any("/*", serve)
}
