// Package commands is the operator's commands (events, failures, replay, reconcile, verify, endpoint,
// prune) as a tree of cobra commands. The program stripeonce has them; a host hangs them into its own
// program with New, and they work with all the functions that its deliveries run:
//
//	root.AddCommand(commands.New(&commands.Config{Open: openHost}))
//	os.Exit(commands.Execute(ctx, root))
package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Host is what the commands work with.
type Host struct {
	// Pool leads to the database of the ledger. It is closed by nobody but Close.
	Pool *pgxpool.Pool
	// Receiver has the functions that deliveries run. It need not be the one that is mounted.
	Receiver *webhooks.Receiver
	// Projection is what subscriptions.Register returned for the receiver's handlers. Nil: none, and verify
	// cannot fix.
	Projection *subscriptions.Projection
	// APIKey is the secret or restricted key for what asks Stripe. Empty: those commands refuse.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Empty: Stripe's.
	APIBase string
	// Close is called when a command is done. Nil: nothing is.
	Close func()
}

// Config configures the tree.
type Config struct {
	// Open connects to what the commands work with, when one runs. database is false for the one that needs
	// no database, endpoint; most hosts have no use for it. Required.
	Open func(ctx context.Context, database bool) (*Host, error)
	// Remote is for a program whose receiver may lack functions that deliveries run, as stripeonce's own
	// does: what writes must then be told where to apply events, --to URL or --here. Nil for a host.
	Remote *RemoteReceiver
	// Logger gets warnings, such as of waiting for Stripe. Nil: slog.Default().
	Logger *slog.Logger
}

// RemoteReceiver says how a program without all functions reaches the receiver that has them.
type RemoteReceiver struct {
	// Secret returns a signing secret of that receiver. For --to.
	Secret func() (string, error)
}

// New returns the command "stripe", with the operator's commands below it. It panics without Config.Open.
func New(config *Config) *cobra.Command {
	parent := &cobra.Command{
		Use:   "stripe",
		Short: "See, replay and reconcile Stripe's events",
		Args:  cli.Args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cli.Strict(parent)
	parent.AddCommand(List(config)...)
	return parent
}

// List returns the operator's commands by themselves.
func List(config *Config) []*cobra.Command {
	if config == nil || config.Open == nil {
		panic("commands: Config.Open is nil")
	}
	t := &tree{Config: *config}
	if t.Logger == nil {
		t.Logger = slog.Default()
	}
	list := []*cobra.Command{t.events(), t.failures(), t.replay(), t.reconcile(), t.verify(), t.endpoint(), t.prune()}
	for _, cmd := range list {
		cmd.SilenceUsage = true
		if t.Remote == nil {
			cmd.Example = hostExamples.Replace(cmd.Example)
		}
	}
	return list
}

// hostExamples takes out of examples what a host's commands have no need of.
var hostExamples = strings.NewReplacer(" --to http://127.0.0.1:4242/webhooks/stripe", "", " --here", "", "  stripeonce ", "  … stripe ")

// Execute runs a command with the arguments of the process, writes what is amiss to standard error, and
// returns the exit code: 0; 1 if something failed, drift is left, or an event still fails; 2 for wrong use
// and refusals.
func Execute(ctx context.Context, root *cobra.Command) int { return cli.Execute(ctx, root) }

type tree struct{ Config }

// settings are the flags that several commands have.
type settings struct {
	to         string
	here       bool
	apiTimeout time.Duration
}

// addAPI adds the flag of commands that ask Stripe.
func (s *settings) addAPI(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&s.apiTimeout, "api-timeout", operations.DefaultAPITimeout, "how `long` one request to Stripe's API may take")
}

// addWhere adds the flags that say where events are applied, if the program does not have every function.
func (t *tree) addWhere(cmd *cobra.Command, s *settings, remote bool) {
	if t.Remote == nil {
		return
	}
	if remote {
		cmd.Flags().StringVar(&s.to, "to", "", "apply events by delivering them, signed, to the receiver at this `URL`")
	}
	cmd.Flags().BoolVar(&s.here, "here", false, "apply in this process, with the built-in tables of subscriptions alone")
}

// errWhere explains the choice that is not guessed.
func errWhere(remote bool) error {
	if !remote {
		return cli.Usage("whose handlers are to run? --here stores with the built-in tables of subscriptions alone, and runs " +
			"no function of an application's. If an application mounts the route, run the command from that application (see docs/operations.md)")
	}
	return cli.Usage(`whose handlers are to run? This program does not know those of an application that mounts the route. Say
  --to URL   to deliver the events, signed, to the running receiver, whose handlers then run
  --here     to apply them in this process, with the built-in tables of subscriptions alone`)
}

// work opens the host with its database, does the work and closes it again.
func (t *tree) work(ctx context.Context, do func(host *Host) error) error {
	return t.workWith(ctx, true, do)
}

func (t *tree) workWith(ctx context.Context, database bool, do func(host *Host) error) error {
	host, err := t.Open(ctx, database)
	if err != nil {
		return err
	}
	if host.Close != nil {
		defer host.Close()
	}
	host.APIKey = strings.TrimSpace(host.APIKey)
	if err := signing.CheckAPIKey(host.APIKey); err != nil {
		return cli.Usage("the API key (STRIPE_API_KEY): %w", err)
	}
	err = do(host)
	if fault.LacksMigration(err) {
		if lacks := host.Receiver.Ready(ctx); lacks != nil {
			return lacks
		}
	}
	return explain(err)
}

// explain makes refusals and missing settings wrong use.
func explain(err error) error {
	switch {
	case errors.Is(err, operations.ErrNoAPIKey):
		return cli.Usage("STRIPE_API_KEY is not set: give it (or the file that STRIPE_API_KEY_FILE names) a secret or restricted key (sk_…, rk_…) from Stripe's dashboard")
	case errors.Is(err, operations.ErrRefused):
		return cli.Usage("%w", err)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; what is done stays done, and to run it again goes on from there")
	}
	return err
}

// operator makes the Operator of a command. applies says that it makes events take effect, where checkWhere
// has found that it may.
func (t *tree) operator(host *Host, s *settings, applies bool) (*operations.Operator, error) {
	config := &operations.Config{APIKey: host.APIKey, APIBase: host.APIBase, APITimeout: s.apiTimeout, Logger: t.Logger}
	switch {
	case t.Remote == nil || s.here:
		config.Applier = host.Receiver
	case applies:
		secret, err := t.Remote.Secret()
		if err != nil {
			return nil, err
		}
		config.Applier = operations.NewRemote(s.to, secret)
	}
	return operations.New(host.Pool, config), nil
}

// checkWhere refuses neither where something is applied, both at once, and what is no URL, before anything
// is opened.
func (t *tree) checkWhere(s *settings, applies bool) error {
	switch {
	case s.to != "" && s.here:
		return cli.Usage("--to and --here exclude one another")
	case s.to != "":
		return cli.HTTPURL("--to", s.to)
	case t.Remote != nil && applies && !s.here:
		return errWhere(true)
	}
	return nil
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
