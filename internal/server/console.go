package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/webhooks/echov4"
)

const (
	// ConsolePath is the path of the console.
	ConsolePath = "/console"
	// ConsoleUser is the user name of the console.
	ConsoleUser = "stripeonce"
)

// MountConsole adds the console with HTTP basic authentication. Without a password, it adds nothing.
func (s *Server) MountConsole(c *console.Console, password string) {
	if password == "" {
		return
	}
	echov4.MountConsole(s.echo.Group(ConsolePath, requirePassword(password)), c)
}

func requirePassword(password string) echo.MiddlewareFunc {
	same := func(a, b string) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b)) // so that the time does not depend on the length
		return subtle.ConstantTimeCompare(x[:], y[:])
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			user, given, ok := c.Request().BasicAuth()
			if ok && same(user, ConsoleUser)&same(given, password) == 1 {
				return next(c)
			}
			c.Response().Header().Set("WWW-Authenticate", `Basic realm="stripeonce", charset="UTF-8"`)
			return c.String(http.StatusUnauthorized, "The user is "+ConsoleUser+". The password is CONSOLE_PASSWORD, or the one that `demo --keep` prints.\n")
		}
	}
}
