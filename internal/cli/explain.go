package cli

import (
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// explained is an error with a text for people.
type explained struct {
	error
	text string
}

func (e explained) Error() string { return e.text }
func (e explained) Unwrap() error { return e.error }

// Explain puts a failure to connect to PostgreSQL into one line, and says what helps. Other errors stay as they are.
func Explain(err error) error {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) || errors.As(err, &explained{}) {
		return err
	}
	text := strings.Replace(err.Error(), connect.Error(), oneLine(connect), 1)
	return explained{err, text + ": " + helps(connect)}
}

// oneLine is pgx's text without its line ends, where each attempt has a line, and without attempts that say the same.
func oneLine(err error) string {
	var told []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		if !slices.ContainsFunc(told, func(before string) bool { return strings.HasSuffix(before, line) }) {
			told = append(told, line)
		}
	}
	return strings.Replace(strings.Join(told, "; "), ":; ", ": ", 1)
}

func helps(err error) string {
	var refusal *pgconn.PgError
	var lookup *net.DNSError
	switch {
	case errors.As(err, &lookup):
		return "check the host in DATABASE_URL"
	case strings.Contains(err.Error(), "read only connection"):
		return "the server is read-only, such as a standby: DATABASE_URL must lead to the primary"
	case !errors.As(err, &refusal):
		return "is PostgreSQL running there? DATABASE_URL says where it is"
	case strings.HasPrefix(refusal.Code, "28"):
		return "check the user and the password in DATABASE_URL"
	case refusal.Code == "3D000" && strings.Contains(refusal.Message, "&"):
		return "write ? before the first parameter of DATABASE_URL, and & before the others"
	case refusal.Code == "3D000":
		return "create the database, or correct its name in DATABASE_URL"
	}
	return "PostgreSQL refuses the connection that DATABASE_URL asks for"
}
