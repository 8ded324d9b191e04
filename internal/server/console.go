package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/webhooks/echov4"
)

const (
	// ConsolePath is the path of the console.
	ConsolePath = "/console"
	// ConsoleUser is the user name of the console.
	ConsoleUser = "stripeonce"
	// ReadOnlyUser is the name of the user who may only look.
	ReadOnlyUser = "stripeonce-readonly"
)

// Passwords are those of the console's users. Without its password, a user cannot log in.
type Passwords struct {
	Console  string // of ConsoleUser
	ReadOnly string // of ReadOnlyUser
}

// Any reports whether a user can log in.
func (p Passwords) Any() bool { return p != Passwords{} }

// Users are the names of the users who can log in.
func (p Passwords) Users() []string {
	var names []string
	if p.Console != "" {
		names = append(names, ConsoleUser)
	}
	if p.ReadOnly != "" {
		names = append(names, ReadOnlyUser)
	}
	return names
}

// MountConsole adds the console with HTTP basic authentication. Without a password, it adds nothing. The console's configuration needs
// User and ReadOnly.
func (s *Server) MountConsole(c *console.Console, passwords Passwords) {
	if passwords.Any() {
		echov4.MountConsole(s.echo.Group(ConsolePath, requirePassword(passwords)), c)
	}
}

// User returns the name of the user who has logged in, for console.Config.User.
func User(r *http.Request) string {
	name, _, _ := r.BasicAuth()
	return name
}

// ReadOnly reports whether a user who has logged in may only look, for console.Config.ReadOnly.
func ReadOnly(r *http.Request) bool { return User(r) != ConsoleUser }

func requirePassword(passwords Passwords) echo.MiddlewareFunc {
	same := func(a, b string) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b)) // so that the time does not depend on the length
		return subtle.ConstantTimeCompare(x[:], y[:])
	}
	isSet := func(password string) int { return 1 - same(password, "") }
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			user, given, ok := c.Request().BasicAuth()
			full := same(user, ConsoleUser) & same(given, passwords.Console) & isSet(passwords.Console)
			looks := same(user, ReadOnlyUser) & same(given, passwords.ReadOnly) & isSet(passwords.ReadOnly)
			if ok && full|looks == 1 {
				return next(c)
			}
			c.Response().Header().Set("WWW-Authenticate", `Basic realm="stripeonce", charset="UTF-8"`)
			return c.String(http.StatusUnauthorized, "The user is "+strings.Join(passwords.Users(), " or ")+
				". The password is CONSOLE_PASSWORD or CONSOLE_READONLY_PASSWORD, or the one that `demo --keep` prints.\n")
		}
	}
}
