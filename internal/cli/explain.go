package cli

import (
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// explained is an error with another text.
type explained struct {
	error
	text string
}

func (e explained) Error() string { return e.text }
func (e explained) Unwrap() error { return e.error }

// Explain returns a connection error of PostgreSQL as one line with a hint. It returns other errors unchanged.
func Explain(err error) error {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) || errors.As(err, &explained{}) {
		return err
	}
	text := strings.Replace(err.Error(), connect.Error(), oneLine(connect), 1)
	return explained{err, text + ": " + helps(connect)}
}

// oneLine joins the lines of pgx's text, one for each attempt, without repeated ones.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		if !slices.ContainsFunc(lines, func(before string) bool { return strings.HasSuffix(before, line) }) {
			lines = append(lines, line)
		}
	}
	return strings.Replace(strings.Join(lines, "; "), ":; ", ": ", 1)
}

func helps(err error) string {
	var refusal *pgconn.PgError
	var lookup *net.DNSError
	switch {
	case errors.As(err, &lookup):
		return "check the host in DATABASE_URL"
	case strings.Contains(err.Error(), "read only connection"):
		return "the server is read-only, such as a standby: DATABASE_URL must connect to the primary"
	case !errors.As(err, &refusal):
		return "is PostgreSQL running there? Check DATABASE_URL"
	case strings.HasPrefix(refusal.Code, "28"):
		return "check the user and the password in DATABASE_URL"
	case refusal.Code == "3D000" && strings.Contains(refusal.Message, "&"):
		return "write ? before the first parameter of DATABASE_URL, and & before the others"
	case refusal.Code == "3D000":
		return "create the database, or correct its name in DATABASE_URL"
	}
	return "PostgreSQL refuses the connection of DATABASE_URL"
}
