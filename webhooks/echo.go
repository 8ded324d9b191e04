package webhooks

import (
	"errors"
	"io"
	"net/http"

	"github.com/labstack/echo/v4"
)

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
		req := c.Request()
		req.Body = echoBody{req.Body}
		r.ServeHTTP(c.Response(), req)
		return nil
	})
}

// echoBody is a body that Echo's BodyLimit may cut, which it says in its own way.
type echoBody struct{ io.ReadCloser }

func (b echoBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var httpErr *echo.HTTPError
	if errors.As(err, &httpErr) && httpErr.Code == http.StatusRequestEntityTooLarge {
		err = &http.MaxBytesError{}
	}
	return n, err
}
