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

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/server"
	"github.com/pook/stripeonce/schema/migrate"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/subscriptions/subscriptionsprom"
	"github.com/pook/stripeonce/webhooks"
)

const localDatabase = "stripeonce"

type serveFlags struct {
	log     logFlags
	addr    string
	mode    string
	refetch string
	apiBase string
	local   bool
	dataDir string
	migrate bool
}

func newServe() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Receive deliveries at /webhooks/stripe",
		Long: `Receives deliveries at /webhooks/stripe and keeps the tables of subscriptions.
Also answers GET /healthz, /readyz and /metrics (Prometheus).

It needs STRIPE_WEBHOOK_SECRET, and DATABASE_URL or --local. With STRIPE_API_KEY it
asks Stripe where events cannot settle their order, and takes thin events. It applies no
migration unless told to: on a database that lacks one it starts, is not ready,
and answers deliveries 503, which Stripe retries.`,
		Example: `  # with a private PostgreSQL, for a first try
  STRIPE_WEBHOOK_SECRET=whsec_… stripeonce serve --local

  # for real
  DATABASE_URL=postgres://app@db/app STRIPE_WEBHOOK_SECRET=whsec_… \
      stripeonce serve --addr 0.0.0.0:4242 --log-format json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	f.log.add(cmd)
	cmd.Flags().StringVar(&f.addr, "addr", envOr("ADDR", "127.0.0.1:4242"), "the `address` to listen on (ADDR)")
	cmd.Flags().StringVar(&f.mode, "mode", envOr("STRIPE_MODE", "any"),
		"live, test or `any`: events of the other mode are acknowledged as ignored (STRIPE_MODE)")
	cmd.Flags().StringVar(&f.refetch, "refetch", envOr("STRIPE_REFETCH", "ambiguous"),
		"when Stripe is asked for the current object: `ambiguous`, always or never (STRIPE_REFETCH); needs STRIPE_API_KEY")
	cmd.Flags().StringVar(&f.apiBase, "api-base", envOr("STRIPE_API_BASE", ""), "another `URL` of Stripe's API, for tests (STRIPE_API_BASE)")
	cmd.Flags().BoolVar(&f.local, "local", false, "run a private PostgreSQL instead of using DATABASE_URL; implies --migrate")
	cmd.Flags().StringVar(&f.dataDir, "data-dir", defaultDataDir(), "the `folder` in which --local keeps its data")
	cmd.Flags().BoolVar(&f.migrate, "migrate", false, "apply missing migrations before serving")
	return cmd
}

// defaultDataDir is in the user's own folder. Root's is closed to the user that PostgreSQL runs as.
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
	logger, err := f.log.logger(stderr)
	if err != nil {
		return err
	}
	signing, err := secrets()
	if err != nil {
		return err
	}
	if mode := webhooks.Mode(f.mode); mode != webhooks.ModeAny && mode != webhooks.ModeLive && mode != webhooks.ModeTest {
		return usage("mode %q: use live, test or any", f.mode)
	}
	switch subscriptions.Refetch(f.refetch) {
	case subscriptions.RefetchAmbiguous, subscriptions.RefetchAlways, subscriptions.RefetchNever:
	default:
		return usage("refetch %q: use ambiguous, always or never", f.refetch)
	}
	url, stop, err := f.database(ctx, logger)
	if err != nil {
		return err
	}
	err = f.serve(ctx, logger, url, signing)
	return errors.Join(err, stop())
}

// database returns the URL to use and what to call at the end.
func (f *serveFlags) database(ctx context.Context, logger *slog.Logger) (url string, stop func() error, err error) {
	if !f.local {
		if os.Getenv(envDatabaseURL) == "" {
			return "", nil, usage("no database: set %s, or try --local for a private PostgreSQL", envDatabaseURL)
		}
		url, err = databaseURL()
		return url, func() error { return nil }, err
	}
	cluster, err := pglocal.Start(ctx, pglocal.Config{Dir: f.dataDir})
	if err != nil {
		return "", nil, fmt.Errorf("--local: %w", err)
	}
	if err := cluster.CreateDatabase(ctx, localDatabase); err != nil {
		return "", nil, errors.Join(fmt.Errorf("--local: %w", err), cluster.Stop())
	}
	url = cluster.URL(localDatabase)
	logger.Info("private PostgreSQL started", "data_dir", f.dataDir, "url", url)
	return url, cluster.Stop, nil
}

func (f *serveFlags) serve(ctx context.Context, logger *slog.Logger, url string, signing []string) error {
	if f.migrate || f.local {
		if err := migrate.Up(ctx, url, logWriter{logger}); err != nil {
			return err
		}
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return usage("%s: %w", envDatabaseURL, err)
	}
	defer pool.Close()
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, &subscriptions.Config{Refetch: subscriptions.Refetch(f.refetch), Logger: logger})
	receiver, err := webhooks.New(pool, h, &webhooks.Config{
		Secrets: signing, Mode: webhooks.Mode(f.mode), APIKey: os.Getenv(envAPIKey), APIBase: f.apiBase, Logger: logger,
	})
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", f.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", f.addr, err)
	}
	logger.Info("listening", "url", "http://"+listener.Addr().String()+server.WebhookPath)
	if err := receiver.Ready(ctx); err != nil {
		logger.Warn("not ready yet", "error", err)
	}
	return server.New(receiver, logger, subscriptionsprom.New(projection)).Serve(ctx, listener)
}
