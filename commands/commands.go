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
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Host is the application that the commands work with: its database, receiver and settings.
type Host struct {
	// Pool connects to the database of the ledger. The commands do not close it: Close should.
	Pool *pgxpool.Pool
	// Receiver has the handlers that deliveries run. It need not be the receiver that is mounted.
	Receiver *webhooks.Receiver
	// Projection is the result of subscriptions.Register for the receiver's handlers. If nil, verify --fix and backfill of
	// subscriptions are refused.
	Projection *subscriptions.Projection
	// Mirror is the result of mirror.Register for the receiver's handlers, whose OnChange verify --fix and backfill --hooks call.
	// Optional.
	Mirror *mirror.Projection
	// APIKey is the secret or restricted key for requests to Stripe. If empty, commands that need it are refused.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Defaults to Stripe's.
	APIBase string
	// AccountID is webhooks.Config.AccountID of the receiver. Commands that compare or list an account's objects then work on
	// that account alone, unless --account names others.
	AccountID string
	// Close is called at the end of a command. Optional.
	Close func()
}

// Config configures the commands.
type Config struct {
	// Open returns the Host of a command that runs. database is false for endpoint, the only command that needs no
	// database. Required.
	Open func(ctx context.Context, database bool) (*Host, error)
	// Remote is for a program whose receiver may lack handlers that deliveries run, such as the stripeonce binary. Every
	// command that applies events then requires --to or --here. Nil for a host.
	Remote *RemoteReceiver
	// Logger receives warnings, such as of retried requests to Stripe. Defaults to slog.Default().
	Logger *slog.Logger
}

// RemoteReceiver configures --to, which delivers events to the receiver that has all handlers.
type RemoteReceiver struct {
	// Secret returns a signing secret of that receiver.
	Secret func() (string, error)
}

// New returns the command "stripe", with the operator's commands below it. It panics without Config.Open.
func New(config *Config) *cobra.Command {
	parent := &cobra.Command{
		Use:   "stripe",
		Short: "Inspect, replay and reconcile Stripe's events",
		Args:  cli.Args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cli.Strict(parent)
	parent.AddCommand(List(config)...)
	return parent
}

// List returns the operator's commands without a parent.
func List(config *Config) []*cobra.Command {
	if config == nil || config.Open == nil {
		panic("commands: Config.Open is nil")
	}
	t := &tree{Config: *config}
	if t.Logger == nil {
		t.Logger = slog.Default()
	}
	list := []*cobra.Command{t.events(), t.failures(), t.replay(), t.reconcile(), t.verify(), t.backfill(), t.endpoint(), t.prune(), t.runs(), t.reprocess(), t.erase()}
	for _, cmd := range list {
		t.finish(cmd)
	}
	return list
}

// finish sets what is the same for a command and its subcommands.
func (t *tree) finish(cmd *cobra.Command) {
	cmd.SilenceUsage = true
	if t.Remote == nil {
		cmd.Example = hostExamples.Replace(cmd.Example)
	}
	for _, below := range cmd.Commands() {
		t.finish(below)
	}
}

// hostExamples removes --to and --here from examples, since a host's commands do not have them.
var hostExamples = strings.NewReplacer(" --to http://127.0.0.1:4242/webhooks/stripe", "", " --here", "", "  stripeonce ", "  myapp stripe ")

// Execute runs a command with the arguments of the process and writes its error to standard error. It returns the exit
// code: 0; 1 if the command failed, drift is left, or an event still fails; 2 for wrong use and refusals.
func Execute(ctx context.Context, root *cobra.Command) int { return cli.Execute(ctx, root) }

type tree struct{ Config }

// settings has the flags that several commands share.
type settings struct {
	to         string
	here       bool
	apiTimeout time.Duration
	reason     string
}

// addAPI adds the flag of commands that make requests to Stripe.
func (s *settings) addAPI(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&s.apiTimeout, "api-timeout", operations.DefaultAPITimeout, "the `timeout` of each request to Stripe's API")
}

// addReason adds the flag of commands whose runs are recorded. when says on which condition, such as "with --fix: ".
func (s *settings) addReason(cmd *cobra.Command, when string) {
	cmd.Flags().StringVar(&s.reason, "reason", "", when+"a `text` for the record of the run, such as a ticket number; 'runs' shows it")
}

// addWhere adds --here, and --to if the command supports it, unless the program has all handlers.
func (t *tree) addWhere(cmd *cobra.Command, s *settings, remote bool) {
	if t.Remote == nil {
		return
	}
	if remote {
		cmd.Flags().StringVar(&s.to, "to", "", "apply events by delivering them, signed, to the receiver at this `URL`")
	}
	cmd.Flags().BoolVar(&s.here, "here", false, "apply events in this process, which updates only the built-in tables (subscriptions and mirrored objects) and runs no other handlers")
}

// errWhere is the error for a missing --to or --here.
func errWhere(remote bool) error {
	if !remote {
		return cli.Usage("choose which handlers run: --here updates only the built-in tables (subscriptions and mirrored objects) and runs no handlers " +
			"of an application; if an application mounts the route, run its own command instead (see docs/operations.md)")
	}
	return cli.Usage(`choose which handlers run, with --to or --here: this program does not contain the handlers of an application
  --to URL   delivers the events, signed, to the running receiver, which runs its handlers
  --here     applies them in this process, which updates only the built-in tables (subscriptions and mirrored objects)`)
}

// work opens the host with its database, calls do, and closes the host.
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
		return cli.Usage("STRIPE_API_KEY: %w", err)
	}
	err = do(host)
	if fault.LacksMigration(err) {
		if lacks := host.Receiver.Ready(ctx); lacks != nil {
			return lacks
		}
	}
	return explain(err)
}

// explain turns refusals and missing settings into errors of wrong use.
func explain(err error) error {
	switch {
	case errors.Is(err, operations.ErrNoAPIKey):
		return cli.Usage("STRIPE_API_KEY is not set: set it to a secret or restricted key (sk_…, rk_…) from Stripe's dashboard, or STRIPE_API_KEY_FILE to a file with the key")
	case errors.Is(err, operations.ErrRefused), errors.Is(err, subscriptions.ErrRefused), errors.Is(err, mirror.ErrRefused):
		return cli.Usage("%w", err)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted: completed work is kept; run the command again to continue")
	}
	return err
}

// operator returns the Operator of a command. applies reports whether the command applies events, which checkWhere has
// permitted.
func (t *tree) operator(host *Host, s *settings, applies bool) (*operations.Operator, error) {
	config := &operations.Config{APIKey: host.APIKey, APIBase: host.APIBase, APITimeout: s.apiTimeout, AccountID: host.AccountID, Reason: s.reason, Logger: t.Logger}
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

// checkWhere refuses a command that applies events without --to or --here, both flags together, and a malformed URL. It
// runs before the host is opened.
func (t *tree) checkWhere(s *settings, applies bool) error {
	switch {
	case s.to != "" && s.here:
		return cli.Usage("--to and --here are mutually exclusive")
	case s.to != "":
		return cli.HTTPURL("--to", s.to)
	case t.Remote != nil && applies && !s.here:
		return errWhere(true)
	}
	return nil
}

// columns joins the texts of a line that are not empty.
func columns(texts ...string) string {
	var list []string
	for _, one := range texts {
		if one = cli.OneLine(one); one != "" {
			list = append(list, one)
		}
	}
	return strings.Join(list, "  ")
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
