package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
)

func (t *tree) verify() *cobra.Command {
	var s settings
	v := verification{}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare subscriptions and mirrored objects with Stripe's, and fix differences",
		Long: `Compares every stored subscription and mirrored object with Stripe's current one, in both
directions, and shows each field that differs with both values. The exit code is 1 if
anything differs. Requires STRIPE_API_KEY, and compares only rows of the key's mode.
Connected accounts that have rows are included. --type chooses the types, whether or not
the receiver mirrors them. --customer compares one customer's objects, as far as Stripe
lists them by customer, and --only one object.

--fix stores Stripe's object if a row differs or is missing, and calls OnChange with a nil
Event and Imported true; --no-hooks turns off OnChange. To import what exists at Stripe, use
backfill. A row of an object that Stripe does not know is not changed, unless --gone marks it
as canceled or deleted: after test data or a test clock was deleted. It is refused for more
than 1 % of the objects, since the key may be of another account, unless --force is set.`,
		Example: `  stripeonce verify
  stripeonce verify --type subscription,customer,invoice
  stripeonce verify --customer cus_NffrFeUfNV2Hib
  stripeonce verify --only in_1MtHbELkdIwHu7ixl4OzzPMv --fix --here
  stripeonce verify --json | jq 'select(.field == "status")'`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	v.add(cmd)
	flags.StringVar(&v.only, "only", "", "the object of this `id` alone; its type follows from the id, or from --type")
	flags.StringVar(&v.customer, "customer", "", "the objects of this `customer` alone (cus_…)")
	flags.BoolVar(&v.fix, "fix", false, "store Stripe's object if a row differs or is missing")
	flags.BoolVar(&v.noHooks, "no-hooks", false, "with --fix: do not call OnChange")
	flags.BoolVar(&v.gone, "gone", false, "with --fix: mark rows as canceled or deleted whose object Stripe does not have any more")
	flags.BoolVar(&v.force, "force", false, "with --gone: also if these are more than 1 % of the objects")
	flags.StringSliceVar(&v.accounts, "account", nil, "also these connected `accounts`; accounts that have rows are always included, unless the receiver has an account id")
	flags.IntVar(&v.rate, "rate", subscriptions.DefaultVerifyRate, "the requests a second to Stripe")
	flags.StringVar(&v.reason, "reason", "", "with --fix: a `text` for the record of the run (stripe_webhook_runs)")
	flags.StringVar(&v.after, "after", "", "resume an interrupted run at its `position`")
	t.addWhere(cmd, &s, false)
	s.addAPI(cmd)
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if v.fix && t.Remote != nil && !s.here {
			return errWhere(false)
		}
		if err := v.check(); err != nil {
			return err
		}
		cli.IgnoreBrokenPipe()
		return t.work(cmd.Context(), func(host *Host) error {
			if host.APIKey == "" {
				return operations.ErrNoAPIKey
			}
			if err := v.choose(host); err != nil {
				return err
			}
			v.host, v.apiTimeout, v.logger, v.out, v.progress = host, s.apiTimeout, t.Logger, out.Of(cmd), cli.NewProgress(cmd)
			return v.run(cmd.Context())
		})
	}
	return cmd
}

// verification is one run of verify.
type verification struct {
	objectTypes
	only, customer, after     string
	fix, noHooks, gone, force bool
	accounts                  []string
	rate                      int
	reason                    string
	apiTimeout                time.Duration

	host     *Host
	logger   *slog.Logger
	out      *cli.Output
	progress *cli.Progress
	written  error // of the output
	sum      mirror.Verified
}

// check refuses flags that do not fit together, and reads the types.
func (v *verification) check() error {
	switch {
	case (v.noHooks || v.reason != "") && !v.fix:
		return cli.Usage("--no-hooks and --reason require --fix: without it nothing is stored")
	case v.gone && !v.fix, v.force && !v.gone:
		return cli.Usage("--gone requires --fix, and --force requires --gone")
	case v.rate < 1:
		return cli.Usage("--rate must be at least 1")
	case v.only != "" && v.customer != "", v.after != "" && v.only+v.customer != "":
		return cli.Usage("--only, --customer and --after are mutually exclusive")
	}
	if err := v.objectTypes.check(); err != nil || v.only == "" {
		return err
	}
	return v.objectTypes.only(v.only)
}

// choose determines the types to compare.
func (v *verification) choose(host *Host) error {
	v.complete(host)
	if v.customer != "" {
		if err := v.ofCustomer(); err != nil {
			return err
		}
	}
	if v.fix && host.Projection == nil && v.subscriptions {
		return errNoSubscriptions
	}
	return nil
}

var errNoSubscriptions = cli.Usage("this program has no tables of subscriptions: name the types of mirrored objects with --type")

func (v *verification) run(ctx context.Context) error {
	started := time.Now()
	err := v.compare(ctx)
	v.progress.Clear()
	if v.fix && v.sum.Drifted > 0 {
		arguments := map[string]any{"types": v.names(), "only": v.only, "customer": v.customer, "accounts": v.accounts, "hooks": !v.noHooks, "gone": v.gone, "after": v.after}
		maps.DeleteFunc(arguments, func(_ string, value any) bool { return reflect.ValueOf(value).IsZero() })
		operations.New(v.host.Pool, &operations.Config{Reason: v.reason, Logger: v.logger}).
			RecordRun(ctx, &operations.RunRecord{Kind: operations.RunVerify, Arguments: arguments, Counts: v.sum, Started: started, Err: err})
	}
	switch {
	case v.sum.Position == "":
	case errors.Is(err, context.Canceled):
		err = fmt.Errorf("interrupted: continue with --after '%s'", v.sum.Position)
	case err != nil:
		err = fmt.Errorf("%w: continue with --after '%s'", explain(err), v.sum.Position)
	}
	if err != nil && v.sum.Checked == 0 {
		return err
	}
	if v.out.JSON {
		v.line(v.sum)
	}
	v.out.Printf("%d checked, %d drifted, %d fixed\n", v.sum.Checked, v.sum.Drifted, v.sum.Fixed)
	if v.sum.Unknown*100 > v.sum.Checked && !v.gone {
		v.out.Hintf("Stripe does not have %s: is the API key of another account or sandbox than these rows? Two of them need a database each, or "+
			"STRIPE_ACCOUNT_ID. Test data that was deleted can be marked as canceled or deleted: --fix --gone\n", plural(v.sum.Unknown, v.noun()))
	}
	switch {
	case err != nil:
		return err
	case v.sum.Drifted > v.sum.Fixed:
		return fmt.Errorf("%s not matching Stripe's", plural(v.sum.Drifted-v.sum.Fixed, v.noun()))
	}
	return v.written
}

// compare compares the subscriptions, and then the other types. Positions of the latter begin with the type and a space.
func (v *verification) compare(ctx context.Context) error {
	var failed []error
	ofMirror := strings.Contains(v.after, " ")
	if v.subscriptions && !ofMirror {
		config := &subscriptions.VerifyConfig{
			APIKey: v.host.APIKey, APIBase: v.host.APIBase, APITimeout: v.apiTimeout, Projection: v.host.Projection, NoHooks: v.noHooks,
			Gone: v.gone, Force: v.force, AccountID: v.host.AccountID, Accounts: v.accounts, Rate: v.rate,
			Only: v.only, Customer: v.customer, After: v.after, Logger: v.logger,
			Each: func(d subscriptions.Difference) {
				v.difference(mirror.Difference{Type: subscriptionType, ID: d.ID, Field: d.Field, Local: d.Local, Stripe: d.Stripe})
			},
			Progress: func(sum subscriptions.Verified) { v.show(mirror.Verified(sum)) },
		}
		if v.fix {
			config.Fix = v.host.Receiver
		}
		sum, err := subscriptions.Verify(ctx, v.host.Pool, config)
		if v.sum = mirror.Verified(sum); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil || sum.Position != "" {
			return errors.Join(failed...)
		}
	}
	if len(v.mirrored) == 0 {
		return errors.Join(failed...)
	}
	config := &mirror.VerifyConfig{
		Types: v.mirrored, APIKey: v.host.APIKey, APIBase: v.host.APIBase, APITimeout: v.apiTimeout, Projection: v.host.Mirror, NoHooks: v.noHooks,
		Gone: v.gone, Force: v.force, AccountID: v.host.AccountID, Accounts: v.accounts, Rate: v.rate,
		Only: v.only, Customer: v.customer, Logger: v.logger, Each: v.difference, Progress: func(sum mirror.Verified) { v.show(sum) },
	}
	if ofMirror {
		config.After = v.after
	}
	if v.fix {
		config.Fix = v.host.Receiver
	}
	sum, err := mirror.Verify(ctx, v.host.Pool, config)
	v.sum.Checked += sum.Checked
	v.sum.Drifted += sum.Drifted
	v.sum.Fixed += sum.Fixed
	v.sum.Unknown += sum.Unknown
	v.sum.Position = sum.Position
	return errors.Join(append(failed, err)...)
}

func (v *verification) show(sum mirror.Verified) {
	v.progress.Show(-1, "%d checked, %d drifted, %d fixed", v.sum.Checked+sum.Checked, v.sum.Drifted+sum.Drifted, v.sum.Fixed+sum.Fixed)
}

// difference prints one difference.
func (v *verification) difference(d mirror.Difference) {
	v.progress.Clear()
	if v.out.JSON {
		v.line(d)
		return
	}
	line := describe(d)
	if len(v.mirrored) > 0 {
		line = d.Type + "  " + line
	}
	v.out.Printf("%s\n", line)
}

func (v *verification) line(value any) {
	if err := v.out.Line(value); v.written == nil {
		v.written = err
	}
}

func describe(d mirror.Difference) string {
	switch {
	case d.Field == "id" && d.Local == nil:
		return cli.OneLine(d.ID) + "  is missing here"
	case d.Field == "id":
		return cli.OneLine(d.ID) + "  is unknown to Stripe"
	default:
		return cli.OneLine(fmt.Sprintf("%s  %s: here %s, at Stripe %s", d.ID, d.Field, value(d.Local), value(d.Stripe)))
	}
}

func value(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(text) > maxShown {
		return fmt.Sprintf("%s… (%d bytes, see --json)", strings.ToValidUTF8(string(text[:maxShown]), ""), len(text))
	}
	return string(text)
}

// maxShown is how much of a value is shown on a terminal: lists of a hundred elements differ, too.
const maxShown = 200
