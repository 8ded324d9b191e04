package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
		Short: "Compare every subscription, or objects of other types, with Stripe's, and fix differences",
		Long: `Compares every stored subscription with Stripe's current object, in both directions, and
shows each field that differs with both values. The exit code is 1 if anything differs.
Requires STRIPE_API_KEY, and compares only rows of the key's mode. Connected accounts that
have rows are included. --type compares mirrored objects of other types, whether or not the
receiver mirrors them.

--fix stores Stripe's object if a row differs or is missing, and calls OnChange with a nil
Event and Imported true. Use it also to import existing objects; --no-hooks turns off OnChange. A row
of an object that Stripe does not know is not changed, unless --gone marks it as canceled
or deleted: after test data or a test clock was deleted. It is refused for more than 1 % of
the objects, since the key may be of another account, unless --force is set.`,
		Example: `  stripeonce verify
  stripeonce verify --type subscription,customer,invoice
  stripeonce verify --json | jq 'select(.field == "status")'
  stripeonce verify --fix --here    # the first import`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.StringVar(&v.types, "type", subscriptionType, "the `types` of objects, such as subscription,invoice, or the groups billing and all of mirrored types")
	flags.BoolVar(&v.fix, "fix", false, "store Stripe's object if a row differs or is missing")
	flags.BoolVar(&v.noHooks, "no-hooks", false, "with --fix: do not call OnChange")
	flags.BoolVar(&v.gone, "gone", false, "with --fix: mark rows as canceled or deleted whose object Stripe does not have any more")
	flags.BoolVar(&v.force, "force", false, "with --gone: also if these are more than 1 % of the objects")
	flags.StringSliceVar(&v.accounts, "account", nil, "also these connected `accounts`; accounts that have rows are always included, unless the receiver has an account id")
	flags.IntVar(&v.rate, "rate", subscriptions.DefaultVerifyRate, "the requests a second to Stripe")
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
			if v.fix && host.Projection == nil && v.subscriptions {
				return cli.Usage("--fix: this program has no tables of subscriptions")
			}
			v.host, v.apiTimeout, v.logger, v.out, v.progress = host, s.apiTimeout, t.Logger, out.Of(cmd), cli.NewProgress(cmd)
			return v.run(cmd.Context())
		})
	}
	return cmd
}

const subscriptionType = "subscription"

// verification is one run of verify.
type verification struct {
	types, after              string
	fix, noHooks, gone, force bool
	accounts                  []string
	rate                      int
	apiTimeout                time.Duration

	subscriptions bool     // whether they are among the types
	mirrored      []string // the other types

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
	case v.noHooks && !v.fix:
		return cli.Usage("--no-hooks requires --fix: without it nothing is stored")
	case v.gone && !v.fix, v.force && !v.gone:
		return cli.Usage("--gone requires --fix, and --force requires --gone")
	case v.rate < 1:
		return cli.Usage("--rate must be at least 1")
	}
	var others []string
	for entry := range strings.SplitSeq(v.types, ",") {
		if strings.TrimSpace(entry) == subscriptionType {
			v.subscriptions = true
		} else {
			others = append(others, entry)
		}
	}
	var err error
	if v.mirrored, err = mirror.Types(strings.Join(others, ",")); err != nil {
		return cli.Usage("--type: %w", err)
	}
	if err := mirror.Comparable(v.mirrored); err != nil {
		return cli.Usage("--type: %w", err)
	}
	if !v.subscriptions && len(v.mirrored) == 0 {
		return cli.Usage("--type names no type: use one such as subscription or invoice")
	}
	return nil
}

func (v *verification) run(ctx context.Context) error {
	err := v.compare(ctx)
	v.progress.Clear()
	if err != nil && v.sum.Position != "" {
		err = errors.Join(explain(err), fmt.Errorf("resume with --after '%s'", v.sum.Position))
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

// noun is what is compared.
func (v *verification) noun() string {
	if len(v.mirrored) == 0 {
		return subscriptionType
	}
	return "object"
}

// compare compares the subscriptions, and then the other types. Positions of the latter begin with the type and a space.
func (v *verification) compare(ctx context.Context) error {
	var failed []error
	ofMirror := strings.Contains(v.after, " ")
	if v.subscriptions && !ofMirror {
		config := &subscriptions.VerifyConfig{
			APIKey: v.host.APIKey, APIBase: v.host.APIBase, APITimeout: v.apiTimeout, Projection: v.host.Projection, NoHooks: v.noHooks,
			Gone: v.gone, Force: v.force, AccountID: v.host.AccountID, Accounts: v.accounts, Rate: v.rate, After: v.after, Logger: v.logger,
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
		Gone: v.gone, Force: v.force, AccountID: v.host.AccountID, Accounts: v.accounts, Rate: v.rate, Logger: v.logger,
		Each: v.difference, Progress: func(sum mirror.Verified) { v.show(sum) },
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
