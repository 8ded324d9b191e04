package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/compare"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
)

func (t *tree) verify() *cobra.Command {
	v := verification{}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare stored objects with Stripe's, and fix differences",
		Long: `Compares every stored subscription and mirrored object with the current object at Stripe, in
both directions, and prints each field that differs with both values. The exit code is 1 if an
object differs. It compares only rows of the API key's mode, including connected accounts that
have rows. --type selects the object types, even types that the receiver does not mirror.
--customer compares the objects of one customer, of the types that Stripe lists by customer.
--only compares one object. Requires STRIPE_API_KEY.

--fix stores Stripe's object if a row differs or is missing, and calls OnChange with a nil
Event and Imported true; --no-hooks turns OnChange off. For a first import, use backfill. A
row whose object does not exist at Stripe stays unchanged, unless --gone marks it as canceled
or deleted. Use --gone after test data or a test clock was deleted. It refuses to mark more
than 1 % of the objects, since the key may be of another account, unless --force is set.`,
		Example: `  stripeonce verify
  stripeonce verify --type subscription,customer,invoice
  stripeonce verify --customer cus_NffrFeUfNV2Hib
  stripeonce verify --only in_1MtHbELkdIwHu7ixl4OzzPMv --fix --here
  stripeonce verify --json | jq 'select(.field == "status")'`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	v.types.add(cmd)
	flags.StringVar(&v.Only, "only", "", "only the object with this `id`; --type names its type if the id does not show it")
	flags.StringVar(&v.Customer, "customer", "", "only objects of this `customer` (cus_…)")
	flags.BoolVar(&v.Fix, "fix", false, "store Stripe's object if a row differs or is missing")
	flags.BoolVar(&v.NoHooks, "no-hooks", false, "with --fix: do not call OnChange")
	flags.BoolVar(&v.Gone, "gone", false, "with --fix: mark rows as canceled or deleted if their object does not exist at Stripe")
	flags.BoolVar(&v.Force, "force", false, "with --gone: mark even more than 1 % of the objects")
	flags.StringSliceVar(&v.Accounts, "account", nil, "also these connected `accounts`, comma separated; accounts that have rows are included anyway, unless --account-id is set")
	flags.IntVar(&v.Rate, "rate", subscriptions.DefaultVerifyRate, "the maximum `number` of requests per second to Stripe")
	flags.StringVar(&v.After, "after", "", "continue an interrupted run after this `position`, which the run printed")
	v.addReason(cmd, "with --fix: ")
	t.addWhere(cmd, &v.settings, false)
	v.addAPI(cmd)
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if v.Fix && t.Remote != nil && !v.here {
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
			v.use(host, t.Logger)
			v.out, v.progress = out.Of(cmd), cli.NewProgress(cmd)
			return v.run(cmd.Context())
		})
	}
	return cmd
}

// verification is one run of verify.
type verification struct {
	compare.Config
	settings
	types objectTypes

	out      *cli.Output
	progress *cli.Progress
	record   *operations.RunRecording // nil without --fix
	written  error                    // of the output
	sum      mirror.VerifyResult
}

// check refuses flags that do not fit together, and reads the types.
func (v *verification) check() error {
	switch {
	case (v.NoHooks || v.reason != "") && !v.Fix:
		return cli.Usage("--no-hooks and --reason require --fix")
	case v.Gone && !v.Fix, v.Force && !v.Gone:
		return cli.Usage("--gone requires --fix, and --force requires --gone")
	case v.Rate < 1:
		return cli.Usage("--rate must be at least 1")
	case v.Only != "" && v.Customer != "", v.After != "" && v.Only+v.Customer != "":
		return cli.Usage("--only, --customer and --after are mutually exclusive")
	}
	if err := checkCustomer(v.Customer); err != nil {
		return err
	}
	if err := v.types.check(); err != nil || v.Only == "" {
		return err
	}
	return v.types.only(v.Only)
}

// choose determines the types to compare.
func (v *verification) choose(host *Host) error {
	v.types.complete(host)
	if v.Customer != "" {
		if err := v.types.ofCustomer(); err != nil {
			return err
		}
	}
	if v.Fix && host.Projection == nil && v.types.Subscriptions {
		return errNoSubscriptions
	}
	return nil
}

var errNoSubscriptions = cli.Usage("this program does not mirror subscriptions: name the types of mirrored objects with --type")

// use sets what the comparison works with.
func (v *verification) use(host *Host, logger *slog.Logger) {
	v.Types, v.Pool, v.Receiver, v.Subscriptions, v.Mirror = v.types.Types, host.Pool, host.Receiver, host.Projection, host.Mirror
	v.APIKey, v.APIBase, v.APITimeout, v.AccountID, v.Logger = host.APIKey, host.APIBase, v.apiTimeout, host.AccountID, logger
	v.Each = v.difference
	if v.Fix {
		v.record = operations.New(v.Pool, &operations.Config{Reason: v.reason, Logger: logger}).StartRun(operations.RunVerify, v.Arguments())
	}
}

func (v *verification) run(ctx context.Context) error {
	v.Progress = func(sum mirror.VerifyResult) { v.show(ctx, sum) }
	var err error
	v.sum, err = v.Run(ctx)
	v.progress.Clear()
	v.end(ctx, err)
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
	if of := cmp.Or(v.Only, v.Customer); of != "" && v.sum.Checked == 0 && err == nil {
		v.out.Hintf("nothing of %s is here or at Stripe: compared were %s\n", cli.OneLine(of), strings.Join(v.types.Names(), ", "))
	}
	if v.sum.Unknown*100 > v.sum.Checked && !v.Gone {
		v.out.Hintf("Stripe does not have %s: is the API key of another account or sandbox than these rows? Two of them need a database each, or "+
			"STRIPE_ACCOUNT_ID. Test data that was deleted can be marked as canceled or deleted: --fix --gone\n", plural(v.sum.Unknown, v.types.noun()))
	}
	switch {
	case err != nil:
		return err
	case v.sum.Drifted > v.sum.Fixed:
		return fmt.Errorf("%s different from Stripe's", plural(v.sum.Drifted-v.sum.Fixed, v.types.noun()))
	}
	return v.written
}

// end records the end of the run, if it found a difference.
func (v *verification) end(ctx context.Context, err error) {
	switch {
	case v.record == nil:
	case v.sum.Drifted > 0:
		v.record.Finish(ctx, v.sum, err)
	default:
		v.record.Discard(ctx)
	}
}

// show shows and records the progress.
func (v *verification) show(ctx context.Context, sum mirror.VerifyResult) {
	v.progress.Show(-1, "%d checked, %d drifted, %d fixed", sum.Checked, sum.Drifted, sum.Fixed)
	if v.record != nil {
		v.record.VerifyProgress(ctx, operations.ComparisonCounts{Checked: sum.Checked, Drifted: sum.Drifted, Fixed: sum.Fixed})
	}
}

// difference prints one difference.
func (v *verification) difference(d mirror.Difference) {
	v.progress.Clear()
	if v.out.JSON {
		v.line(d)
		return
	}
	line := describe(d)
	if len(v.Mirrored) > 0 {
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
