package main

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/webhooks"
)

const (
	envDatabaseURL = "DATABASE_URL"
	envSecret      = "STRIPE_WEBHOOK_SECRET"
	envAPIKey      = "STRIPE_API_KEY"
)

// envOr is a flag's default: the environment's value, else the documented one.
func envOr(name, byDefault string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return byDefault
}

// databaseURL reads DATABASE_URL, which is no flag since it may hold a password.
func databaseURL() (string, error) {
	value := os.Getenv(envDatabaseURL)
	if value == "" {
		return "", cli.Usage("%s is not set: give it PostgreSQL's address, such as postgres://user:password@host:5432/database", envDatabaseURL)
	}
	if _, err := pgxpool.ParseConfig(value); err != nil {
		return "", cli.Usage("%s: %w", envDatabaseURL, err)
	}
	return value, nil
}

// secrets reads the signing secrets, several separated by commas.
func secrets() ([]string, error) {
	value := os.Getenv(envSecret)
	if strings.TrimSpace(value) == "" {
		return nil, cli.Usage("%s is not set: give it the endpoint's signing secret (whsec_…) from Stripe's dashboard or from "+
			"'stripe listen'; several, separated by commas, while one is rolled", envSecret)
	}
	list := webhooks.SplitSecrets(value)
	if slices.Contains(list, "") {
		return nil, cli.Usage("%s has an empty entry: anybody could sign with an empty secret", envSecret)
	}
	return list, nil
}

// logFlags are the flags of commands that log.
type logFlags struct{ format, level string }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "log-format", envOr("LOG_FORMAT", "text"), "`text` or json (LOG_FORMAT)")
	cmd.Flags().StringVar(&f.level, "log-level", envOr("LOG_LEVEL", "info"), "debug, `info`, warn or error (LOG_LEVEL)")
}

func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return nil, cli.Usage("log level %q: use debug, info, warn or error", f.level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, cli.Usage("log format %q: use text or json", f.format)
	}
}

// logWriter makes a line of log of each line that dbmate writes.
type logWriter struct{ logger *slog.Logger }

func (w logWriter) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		w.logger.Info("migrate", "dbmate", strings.TrimSpace(line))
	}
	return len(text), nil
}
