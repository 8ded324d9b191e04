package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/nearest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/internal/telemetry"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/webhooks"
)

const localDatabase = "stripeonce"

type serveFlags struct {
	stripeSettings
	log            logFlags
	addr           string
	local          bool
	postgres       string
	dataDir        string
	migrate        bool
	drain          cli.Duration
	reconcileEvery cli.Duration
	accounts       []string
	verifyEvery    cli.Duration
	entitled       cli.Duration // entitlements-every
	reconcileAll   bool         // reconcile-others
	retryFailed    bool
	keepPayloads   cli.Duration
	hidePayloads   bool
	traceURL       string
	exports        *telemetry.Telemetry // nil: nothing is exported
	quietAfter     cli.Duration         // console-quiet-after
	passwords      server.Passwords     // of the console
}

func newServe() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the webhook receiver",
		Long: `Receives Stripe's webhook deliveries at POST /webhooks/stripe and keeps the tables of
subscriptions and mirrored objects up to date. It also serves GET /healthz, /readyz and
/metrics (Prometheus). CONSOLE_PASSWORD turns on the console at /console: the user is
stripeonce. CONSOLE_READONLY_PASSWORD adds the user stripeonce-readonly, who can view but not
change anything. Serve the console only behind TLS.

Requires STRIPE_WEBHOOK_SECRET, and DATABASE_URL or --local. With STRIPE_API_KEY the receiver
fetches the current object from Stripe where events do not determine their order, and accepts
thin events. Each secret and password can be in a file instead, which the variable with
the suffix _FILE names, such as STRIPE_WEBHOOK_SECRET_FILE.

Migrations are applied only with --migrate. If the database lacks a migration, the receiver
starts but is not ready, and answers deliveries with 503, which Stripe retries.`,
		Example: `  # with a private PostgreSQL, to try it out
  STRIPE_WEBHOOK_SECRET=whsec_… stripeonce serve --local

  # in production
  DATABASE_URL=postgres://app@db/app STRIPE_WEBHOOK_SECRET=whsec_… \
      stripeonce serve --addr 0.0.0.0:4242 --log-format json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	f.log.add(cmd)
	cmd.Flags().StringVar(&f.addr, "addr", envOr("ADDR", "127.0.0.1:4242"), "the `address` to listen on (ADDR)")
	f.add(cmd)
	cmd.Flags().BoolVar(&f.local, "local", false, "run a private PostgreSQL instead of using DATABASE_URL; implies --migrate")
	cmd.Flags().StringVar(&f.dataDir, "data-dir", defaultDataDir(), "with --local: the `folder` of the database")
	addPostgres(cmd.Flags(), &f.postgres)
	cmd.Flags().BoolVar(&f.migrate, "migrate", false, "apply missing migrations before serving")
	cmd.Flags().Var(&f.drain, "drain", "after SIGTERM, report not ready but still accept deliveries for this `duration`, such as 5s (default 0s)")
	cmd.Flags().Var(&f.reconcileEvery, "reconcile-every", "find events that never arrived, and apply them, at this `interval`, such as 1h (default: never); requires STRIPE_API_KEY")
	cmd.Flags().BoolVar(&f.reconcileAll, "reconcile-others", false, "with --reconcile-every: reconcile even if an application records events in the same ledger; its handlers do not run for reconciled events")
	cmd.Flags().StringSliceVar(&f.accounts, "reconcile-accounts", nil, "with --reconcile-every: also these connected `accounts`, comma separated")
	cmd.Flags().BoolVar(&f.retryFailed, "retry-failed", false, "retry events that failed in this program: after 15m, then with increasing delays, and once after a deploy")
	cmd.Flags().Var(&f.keepPayloads, "keep-payloads", "store each event's payload for this `duration`, such as 90d, to replay events after the 30 days that Stripe keeps them (default: do not store)")
	cmd.Flags().Var(&f.verifyEvery, "verify-every", "compare all rows with Stripe at this `interval`, such as 7d, and fix differences (default: never); requires STRIPE_API_KEY")
	f.entitled = cli.Duration(24 * time.Hour)
	cmd.Flags().Var(&f.entitled, "entitlements-every", "with STRIPE_API_KEY: compare mirrored entitlements with Stripe at this `interval`, since Stripe sends no event when the product catalog changes; 0: never")
	cmd.Flags().IntVar(&f.listRate, "rate", webhooks.DefaultListRate, "the maximum `number` of requests per second to Stripe for list items that events leave out; deliveries and background work have this limit each")
	cmd.Flags().BoolVar(&f.hidePayloads, "console-hide-payloads", false, "hide payloads of events and Stripe's objects in the console")
	cmd.Flags().StringVar(&f.traceURL, "trace-url", "", "link the traces of failed attempts in the console to this `URL`, such as https://jaeger.example.com/trace/{trace_id}")
	f.quietAfter = cli.Duration(console.DefaultQuietAfter)
	cmd.Flags().Var(&f.quietAfter, "console-quiet-after", "warn in the console if no event has arrived for this `duration`, such as 7d; 0: never")
	return cmd
}

// addPostgres adds the flag for the version of the private PostgreSQL.
func addPostgres(flags *pflag.FlagSet, version *string) {
	flags.StringVar(version, "postgres", os.Getenv(pglocal.EnvVersion),
		"download PostgreSQL of this `version`, 13 to 18, with npm ("+pglocal.EnvVersion+") (default: the installed PostgreSQL)")
}

// defaultDataDir returns a folder in the user's home, or for root one that PostgreSQL's user can enter.
func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/stripeonce"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "stripeonce")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".stripeonce"
	}
	return filepath.Join(home, ".local", "share", "stripeonce")
}

func (f *serveFlags) run(ctx context.Context, stderr io.Writer) error {
	server.TuneGC()
	logger, err := f.log.logger(stderr)
	if err != nil {
		return err
	}
	entries, err := secrets()
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if f.passwords, err = consolePasswords(); err != nil {
		return err
	}
	if f.listRate < 1 {
		return cli.Usage("--rate must be at least 1")
	}
	switch {
	case f.reconcileEvery > 0 && f.apiKey == "":
		return cli.Usage("--reconcile-every requires %s: set it to a secret or restricted key (sk_…, rk_…)", envAPIKey)
	case f.keepPayloads > 0 && f.dropPayloads:
		return cli.Usage("--keep-payloads and --drop-payloads are mutually exclusive")
	case f.verifyEvery > 0 && f.apiKey == "":
		return cli.Usage("--verify-every requires %s: set it to a secret or restricted key (sk_…, rk_…)", envAPIKey)
	}
	if err := console.CheckTraceURL(f.traceURL); err != nil {
		return cli.Usage("--trace-url: %w", err)
	}
	f.keepsPayloads = f.keepPayloads > 0
	for i, entry := range entries {
		if _, secret := signing.CutLabel(entry); !strings.HasPrefix(secret, "whsec_") {
			logger.Warn("a signing secret does not begin with whsec_, as Stripe's do: signatures may not match", "position", i+1)
		}
	}
	if f.exports, err = telemetry.Start(ctx, logger); err != nil {
		return cli.Usage("%w", err)
	}
	database, err := f.database(ctx, logger)
	if err != nil {
		return err
	}
	if err := f.serveOn(ctx, logger, database, entries); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// serveOn serves until ctx or a private PostgreSQL ends, which it then stops.
func (f *serveFlags) serveOn(ctx context.Context, logger *slog.Logger, database servedDatabase, entries []string) error {
	serving, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		select {
		case <-serving.Done():
		case <-database.ended:
			end(errLocalEnded)
		}
	}()
	err := f.serve(serving, logger, database.url, entries)
	end(nil) // before stop, which ends PostgreSQL, too
	err = errors.Join(err, database.stop())
	if errors.Is(context.Cause(serving), errLocalEnded) && ctx.Err() == nil {
		return errors.Join(fmt.Errorf("%w: %s says why; start serve again", errLocalEnded, filepath.Join(f.dataDir, "postgresql.log")), err)
	}
	return err
}

// errLocalEnded reports that the PostgreSQL of --local has ended by itself. Nothing would take effect until a restart.
var errLocalEnded = errors.New("--local: the private PostgreSQL has ended")

// servedDatabase is what serve works on.
type servedDatabase struct {
	url   string
	stop  func() error    // stops a private PostgreSQL
	ended <-chan struct{} // closed when a private PostgreSQL ends; nil: it is the user's own
}

// database returns the database to serve on. With --local, it starts it.
func (f *serveFlags) database(ctx context.Context, logger *slog.Logger) (d servedDatabase, err error) {
	if !f.local {
		if f.postgres != os.Getenv(pglocal.EnvVersion) {
			return d, cli.Usage("--postgres requires --local: add --local, or remove --postgres")
		}
		if !hasDatabase() {
			return d, cli.Usage("no database: set %s, or use --local for a private PostgreSQL", envDatabaseURL)
		}
		d.url, err = databaseURL()
		d.stop = func() error { return nil }
		return d, err
	}
	if f.dataDir == "" {
		return d, cli.Usage("--data-dir is empty: set it to the folder for the database of --local")
	}
	if hasDatabase() {
		logger.Warn("--local: "+envDatabaseURL+" is not used", "data_dir", f.dataDir)
	}
	if err := pglocal.CheckVersion(f.postgres); err != nil {
		return d, cli.Usage("--postgres: %w", err)
	}
	cluster, err := pglocal.Start(ctx, pglocal.Config{
		Dir: f.dataDir, Version: f.postgres, Notify: func(message string) { logger.Info(message) },
	})
	switch {
	case errors.Is(err, pglocal.ErrFolder):
		return d, cli.Usage("--local: %w: choose an empty folder with --data-dir", err)
	case errors.Is(err, pglocal.ErrNoBinaries), errors.Is(err, pglocal.ErrDownload): // their texts say what to do
		return d, fmt.Errorf("--local: %w", err)
	case err != nil:
		return d, fmt.Errorf("--local: %w; or choose another folder with --data-dir, or set %s to a PostgreSQL of your own", err, envDatabaseURL)
	}
	if err := cluster.CreateDatabase(ctx, localDatabase); err != nil {
		return d, errors.Join(fmt.Errorf("--local: %w", err), cluster.Stop())
	}
	d = servedDatabase{url: cluster.URL(localDatabase), stop: cluster.Stop, ended: cluster.Exited()}
	logger.Info("private PostgreSQL started", "data_dir", f.dataDir, "url", d.url)
	return d, nil
}

func (f *serveFlags) serve(ctx context.Context, logger *slog.Logger, url string, secrets []string) error {
	if f.migrate || f.local {
		if err := migrate.Up(ctx, url, logWriter{logger}); err != nil {
			return refusal(err)
		}
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return cli.Usage("%s: %w", envDatabaseURL, err)
	}
	defer pool.Close()
	defer f.exports.Stop(ctx) // before the pool is closed, which the last metrics are read from
	receiver, err := f.receiver(pool, secrets, logger, f.exports.Tracer())
	if err != nil {
		return err
	}
	background := newBackground(f, pool, &receiver, logger)
	if err := background.check(ctx); err != nil {
		return err
	}
	listener, err := f.listen(ctx)
	if err != nil {
		return err
	}
	logger.Info("listening", "url", "http://"+listener.Addr().String()+server.WebhookPath)
	logMirrored(logger, f.mirrored)
	if err := receiver.Ready(ctx); err != nil {
		logger.Warn("not ready yet", "error", err)
	}
	defer background.stop()
	more, err := background.start(ctx)
	if err != nil {
		return err
	}
	s := server.New(receiver.Receiver, logger, append(more, receiver.collectors(pool)...)...)
	s.Drain = time.Duration(f.drain)
	s.Use(f.exports.Middleware)
	if err := f.exports.Metrics(ctx, s.Metrics()); err != nil {
		return cli.Usage("%w", err)
	}
	if f.passwords.Any() {
		pages := f.console(pool, &receiver, logger)
		defer pages.Close()
		context.AfterFunc(ctx, pages.Close) // before the receiver stops, which a run in progress works with
		s.MountConsole(pages, f.passwords)
		logger.Info("serving the console", "url", "http://"+listener.Addr().String()+server.ConsolePath, "users", strings.Join(f.passwords.Users(), ","))
	}
	return s.Serve(ctx, listener)
}

// collectors returns the metrics of the tables.
func (own *ownReceiver) collectors(pool *pgxpool.Pool) []prometheus.Collector {
	collectors := []prometheus.Collector{metrics.NewSubscriptions(own.subscriptions), metrics.NewLedger(pool)}
	if own.mirror != nil {
		collectors = append(collectors, metrics.NewMirror(own.mirror))
	}
	return collectors
}

func (f *serveFlags) console(pool *pgxpool.Pool, receiver *ownReceiver, logger *slog.Logger) *console.Console {
	quietAfter := time.Duration(f.quietAfter)
	if quietAfter == 0 {
		quietAfter = -1
	}
	return console.New(pool, receiver.Receiver, &console.Config{
		APIKey: f.apiKey, APIBase: f.apiBase, HidePayloads: f.hidePayloads, TraceURL: f.traceURL, QuietAfter: quietAfter,
		Subscriptions: receiver.subscriptions, Mirror: receiver.mirror,
		User: server.User, ReadOnly: server.ReadOnly, Logger: logger,
	})
}

func (f *serveFlags) listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", f.addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: %w: another program uses the port: choose another port with --addr (ADDR)", f.addr, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s (host:port, such as 127.0.0.1:4242): %w: choose another address with --addr (ADDR)", f.addr, err)
	}
	return listener, nil
}

// logMirrored logs which types are mirrored, and warns of a type that has no rules: it may be misspelled.
func logMirrored(logger *slog.Logger, types []string) {
	if len(types) == 0 {
		return
	}
	logger.Info("mirroring", "object_types", strings.Join(types, ","))
	for _, object := range types {
		if slices.Contains(mirror.All, object) {
			continue
		}
		logger.Warn("the object type to mirror is not known: every event is searched for its objects, and verify cannot compare them",
			"object_type", object, "similar", nearest.Of(object, append([]string{"billing", "entitlements", "all"}, mirror.All...), 4))
	}
}
