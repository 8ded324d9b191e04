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
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// warnings returns the logger of commands whose output goes to standard output.
func warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// nowhere is the URL of a pool that is never used, for a command without a database.
const nowhere = "postgres:///nowhere"

// operatorCommands returns the commands of package commands. Those that make requests to Stripe also have flags for it.
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

// open connects to the database and returns the operator commands' host, with the built-in projection.
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
	// A random secret, so that no delivery can be signed for this receiver.
	own, err := s.receiver(pool, []string{rand.Text()}, warnings(), nil)
	if err != nil {
		return nil, err
	}
	return &commands.Host{
		Pool: pool, Receiver: own.Receiver, Projection: own.subscriptions, Mirror: own.mirror, APIKey: s.apiKey, APIBase: s.apiBase, AccountID: s.accountID, Close: pool.Close,
	}, nil
}

// stripeSettings has the settings of which events take effect, and of requests to Stripe.
type stripeSettings struct {
	mode          string
	refetch       string
	mirror        string
	mirrored      []string // the types in mirror; set by check
	apiBase       string
	apiVersion    string
	accountID     string
	listRate      int    // 0: the default
	apiKey        string // not a flag, since it is secret; set by check
	dropPayloads  bool
	keepsPayloads bool // only serve does
}

func (s *stripeSettings) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.mode, "mode", envOr("STRIPE_MODE", "any"),
		"apply events of this `mode` and ignore others: live, test or any (STRIPE_MODE)")
	flags.StringVar(&s.refetch, "refetch", envOr("STRIPE_REFETCH", "ambiguous"),
		"`when` to fetch the current object from Stripe: ambiguous (if events do not determine their order), always or never (STRIPE_REFETCH); requires STRIPE_API_KEY")
	flags.StringVar(&s.mirror, "mirror", envOr("STRIPEONCE_MIRROR", ""),
		"the object `types` to mirror besides subscriptions, comma separated, such as customer,invoice, or a group: billing, entitlements or all (STRIPEONCE_MIRROR) (default: none)")
	flags.StringVar(&s.apiBase, "api-base", envOr("STRIPE_API_BASE", ""), "the `URL` of another server than Stripe's API, for tests (STRIPE_API_BASE) (default: Stripe's)")
	flags.StringVar(&s.accountID, "account-id", envOr("STRIPE_ACCOUNT_ID", ""),
		"the receiver's own `account` (acct_…), required if receivers of several accounts share the tables (STRIPE_ACCOUNT_ID)")
	if flags.Lookup("api-version") == nil { // endpoint has one of its own
		flags.StringVar(&s.apiVersion, "api-version", envOr("STRIPE_API_VERSION", ""),
			"fetch objects in this API `version` (STRIPE_API_VERSION) (default: the event's, else the account's)")
	}
	flags.BoolVar(&s.dropPayloads, "drop-payloads", os.Getenv("DROP_PAYLOADS") == "true",
		"do not store the payloads of failed events (DROP_PAYLOADS)")
}

// check validates the settings and reads the API key.
func (s *stripeSettings) check() error {
	if mode := webhooks.Mode(s.mode); mode != webhooks.ModeAny && mode != webhooks.ModeLive && mode != webhooks.ModeTest {
		return cli.Usage("--mode (STRIPE_MODE) %q: use live, test or any", s.mode)
	}
	switch subscriptions.Refetch(s.refetch) {
	case subscriptions.RefetchAmbiguous, subscriptions.RefetchAlways, subscriptions.RefetchNever:
	default:
		return cli.Usage("--refetch (STRIPE_REFETCH) %q: use ambiguous, always or never", s.refetch)
	}
	var err error
	if s.mirrored, err = mirror.ParseTypes(s.mirror); err != nil {
		return cli.Usage("--mirror (STRIPEONCE_MIRROR): %w", err)
	}
	if s.mirror != "" && len(s.mirrored) == 0 {
		return cli.Usage("--mirror (STRIPEONCE_MIRROR) is %q, which names no type: use one such as customer,invoice, or billing", s.mirror)
	}
	if s.apiKey, err = stripeKey(); err != nil {
		return err
	}
	if s.apiBase != "" {
		return cli.HTTPURL("--api-base", s.apiBase)
	}
	return nil
}

// receiverName is the name of the program's receivers in the ledger.
const receiverName = "stripeonce"

// ownReceiver is the program's receiver, whose only handlers are projections.
type ownReceiver struct {
	*webhooks.Receiver
	subscriptions *subscriptions.Projection
	mirror        *mirror.Projection // nil: nothing is mirrored
}

func (s *stripeSettings) receiver(pool *pgxpool.Pool, secrets []string, logger *slog.Logger, tracer webhooks.Tracer) (own ownReceiver, err error) {
	h := webhooks.NewHandlers()
	own.subscriptions = subscriptions.Register(h, &subscriptions.Config{Refetch: subscriptions.Refetch(s.refetch), Logger: logger})
	if len(s.mirrored) > 0 {
		own.mirror = mirror.Register(h, &mirror.Config{Types: s.mirrored, Refetch: mirror.Refetch(s.refetch), Logger: logger})
	}
	own.Receiver, err = webhooks.New(pool, h, &webhooks.Config{
		Name: receiverName, Secrets: secrets, Mode: webhooks.Mode(s.mode), APIKey: s.apiKey, APIBase: s.apiBase,
		APIVersion: s.apiVersion, AccountID: s.accountID, ListRate: s.listRate, DropPayloads: s.dropPayloads, KeepPayloads: s.keepsPayloads, Logger: logger, Tracer: tracer,
	})
	return own, err
}
