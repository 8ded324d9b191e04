package main

import (
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/dburl"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/internal/signing"
)

const (
	envDatabaseURL = "DATABASE_URL"
	envSecret      = "STRIPE_WEBHOOK_SECRET"
	envAPIKey      = "STRIPE_API_KEY"

	envConsolePassword  = "CONSOLE_PASSWORD"
	envReadOnlyPassword = "CONSOLE_READONLY_PASSWORD"

	// fileSuffix makes the name of the variable that names a file with the value instead, such as a mounted secret.
	fileSuffix = "_FILE"
)

// envOr returns the default of a flag: the environment's value, or else the documented default.
func envOr(name, byDefault string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return byDefault
}

// databaseURL reads DATABASE_URL, from the environment or a file. It is not a flag, since it may contain a password.
func databaseURL() (string, error) {
	value, source, err := fromFile(envDatabaseURL)
	if err != nil {
		return "", err
	}
	if value = dburl.Normalize(strings.TrimSpace(value)); value == "" {
		return "", cli.Usage("%s is not set: set it to the URL of the database, such as postgres://user:password@host:5432/database", envDatabaseURL)
	}
	if _, err := pgxpool.ParseConfig(value); err != nil {
		return "", cli.Usage("%s: %w: use one such as postgres://user:password@host:5432/database", source, err)
	}
	return value, nil
}

// hasDatabase reports whether a database is set.
func hasDatabase() bool {
	return os.Getenv(envDatabaseURL) != "" || os.Getenv(envDatabaseURL+fileSuffix) != ""
}

// consolePasswords reads the passwords of the console, from the environment or files. An empty one turns its user off.
func consolePasswords() (passwords server.Passwords, err error) {
	for name, password := range map[string]*string{envConsolePassword: &passwords.Console, envReadOnlyPassword: &passwords.ReadOnly} {
		value, source, err := fromFile(name)
		if err != nil {
			return passwords, err
		}
		if source != name {
			value = strings.TrimRight(value, "\r\n") // of the last line
		}
		*password = value
	}
	return passwords, nil
}

// fromFile reads a secret setting from the variable name, or from the file named by the variable with _FILE after the name.
// source is the variable that was set, for errors.
func fromFile(name string) (value, source string, err error) {
	fileName := name + fileSuffix
	value, source = os.Getenv(name), name
	file := os.Getenv(fileName)
	if file == "" {
		return value, source, nil
	}
	if value != "" {
		return "", "", cli.Usage("both %s and %s are set: unset one of them", name, fileName)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", "", cli.Usage("%s: %w: name a file that this user can read", fileName, err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return "", "", cli.Usage("%s is not set or empty: write the secret into the file %s, which is empty", fileName, file)
	}
	return string(text), fileName, nil
}

// secrets reads the signing secrets, from the environment or a file.
func secrets() ([]string, error) {
	value, source, err := fromFile(envSecret)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(value) == "" {
		return nil, cli.Usage("%s is not set or empty: set it to the endpoint's signing secret (whsec_…) from Stripe's dashboard or from "+
			"'stripe listen'; separate several secrets by commas, such as while a secret is rolled", source)
	}
	list := signing.Split(value)
	if err := signing.CheckSecrets(list); err != nil {
		return nil, cli.Usage("%s: %w", source, err)
	}
	return list, nil
}

// stripeKey reads the API key, from the environment or a file. It returns "" if there is none.
func stripeKey() (string, error) {
	key, source, err := fromFile(envAPIKey)
	if err != nil {
		return "", err
	}
	if err := signing.CheckAPIKey(key); err != nil {
		return "", cli.Usage("%s: %w", source, err)
	}
	return strings.TrimSpace(key), nil
}

// senderSecret returns the secret that this program signs deliveries with.
func senderSecret() (string, error) {
	value, source, err := fromFile(envSecret)
	if err == nil && strings.TrimSpace(value) == "" {
		return "", cli.Usage("%s is not set or empty: set it to the receiver's signing secret; in a test, both can use whsec_test", source)
	}
	list, err := secrets()
	if err != nil {
		return "", err
	}
	_, secret := signing.CutLabel(list[0])
	return secret, nil
}

// logFlags has the flags of commands that log.
type logFlags struct{ format, level string }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "log-format", envOr("LOG_FORMAT", "text"), "the `format` of log lines: text or json (LOG_FORMAT)")
	cmd.Flags().StringVar(&f.level, "log-level", envOr("LOG_LEVEL", "info"), "the lowest `level` that is logged: debug, info, warn or error (LOG_LEVEL)")
}

func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return nil, cli.Usage("--log-level (LOG_LEVEL) %q: use debug, info, warn or error", f.level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		options.ReplaceAttr = durationInSeconds
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, cli.Usage("--log-format (LOG_FORMAT) %q: use text or json", f.format)
	}
}

// durationInSeconds replaces a duration by its seconds. slog would write nanoseconds.
func durationInSeconds(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindDuration {
		attr.Value = slog.Float64Value(attr.Value.Duration().Seconds())
	}
	return attr
}

// logWriter logs each line that dbmate writes.
type logWriter struct{ logger *slog.Logger }

func (w logWriter) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		w.logger.Info("migrate", "dbmate", strings.TrimSpace(line))
	}
	return len(text), nil
}
