package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/commands"
	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// warnings is the logger of commands whose output is something else.
func warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// nowhere is the database of a command that needs none: a pool that is never asked for a connection.
const nowhere = "postgres:///nowhere"

// operatorCommands are the commands of package commands. What asks Stripe has the settings as flags, too.
func operatorCommands() []*cobra.Command {
	s := &stripeSettings{mode: string(webhooks.ModeAny), refetch: string(subscriptions.RefetchAmbiguous)}
	list := commands.List(&commands.Config{Open: s.open, Remote: &commands.RemoteReceiver{Secret: senderSecret}, Logger: warnings()})
	for _, cmd := range list {
		if asksStripe := cmd.Flags().Lookup("api-timeout") != nil; asksStripe {
			s.add(cmd)
		}
	}
	return list
}

// open makes what the operator's commands work with: the database and the built-in projection.
func (s *stripeSettings) open(ctx context.Context, database bool) (*commands.Host, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	url := nowhere
	if database {
		var err error
		if url, err = databaseURL(); err != nil {
			return nil, err
		}
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, cli.Usage("%s: %w", envDatabaseURL, err)
	}
	// Nobody can deliver to it: its secret is nobody's.
	receiver, projection, err := s.receiver(pool, []string{rand.Text()}, warnings())
	if err != nil {
		return nil, err
	}
	return &commands.Host{
		Pool: pool, Receiver: receiver, Projection: projection, APIKey: s.apiKey, APIBase: s.apiBase, Close: pool.Close,
	}, nil
}

// stripeSettings are the settings that say which events take effect and how Stripe is asked.
type stripeSettings struct {
	mode         string
	refetch      string
	apiBase      string
	apiKey       string // no flag, since it is secret: check reads it
	dropPayloads bool
}

func (s *stripeSettings) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.mode, "mode", envOr("STRIPE_MODE", "any"),
		"live, test or `any`: events of the other mode are acknowledged as ignored (STRIPE_MODE)")
	flags.StringVar(&s.refetch, "refetch", envOr("STRIPE_REFETCH", "ambiguous"),
		"when Stripe is asked for the current object: `ambiguous`, always or never (STRIPE_REFETCH); needs STRIPE_API_KEY")
	flags.StringVar(&s.apiBase, "api-base", envOr("STRIPE_API_BASE", ""), "another `URL` of Stripe's API, for tests (STRIPE_API_BASE)")
	flags.BoolVar(&s.dropPayloads, "drop-payloads", os.Getenv("DROP_PAYLOADS") == "true",
		"do not keep the payloads of events that fail (DROP_PAYLOADS)")
}

// check refuses what is wrong, and reads the API key.
func (s *stripeSettings) check() error {
	if mode := webhooks.Mode(s.mode); mode != webhooks.ModeAny && mode != webhooks.ModeLive && mode != webhooks.ModeTest {
		return cli.Usage("mode %q: use live, test or any", s.mode)
	}
	switch subscriptions.Refetch(s.refetch) {
	case subscriptions.RefetchAmbiguous, subscriptions.RefetchAlways, subscriptions.RefetchNever:
	default:
		return cli.Usage("refetch %q: use ambiguous, always or never", s.refetch)
	}
	var err error
	if s.apiKey, err = stripeKey(); err != nil {
		return err
	}
	if s.apiBase != "" {
		return cli.HTTPURL("--api-base", s.apiBase)
	}
	return nil
}

// receiver makes the program's own receiver, with the projection alone.
func (s *stripeSettings) receiver(pool *pgxpool.Pool, secrets []string, logger *slog.Logger) (*webhooks.Receiver, *subscriptions.Projection, error) {
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, &subscriptions.Config{Refetch: subscriptions.Refetch(s.refetch), Logger: logger})
	receiver, err := webhooks.New(pool, h, &webhooks.Config{
		Secrets: secrets, Mode: webhooks.Mode(s.mode), APIKey: s.apiKey, APIBase: s.apiBase,
		DropPayloads: s.dropPayloads, Logger: logger,
	})
	return receiver, projection, err
}
