package commands

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
)

func (t *tree) verify() *cobra.Command {
	var s settings
	var fix bool
	config := subscriptions.VerifyConfig{}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare every subscription with Stripe's, and fix differences",
		Long: `Compares every stored subscription with Stripe's current object, in both directions, and
shows each field that differs with both values. The exit code is 1 if anything differs.
Requires STRIPE_API_KEY, and compares only rows of the key's mode. Connected accounts that
have rows are included.

--fix stores Stripe's object if a row differs or is missing, and calls OnChange with a nil
Event. Use it also to import existing subscriptions; --no-hooks turns off OnChange. A row
of a subscription that Stripe does not know is not changed, unless --gone marks it as
canceled: after test data or a test clock was deleted. It is refused for more than 1 % of
the subscriptions, since the key may be of another account, unless --force is set.`,
		Example: `  stripeonce verify
  stripeonce verify --json | jq 'select(.field == "status")'
  stripeonce verify --fix --no-hooks --here    # the first import`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.BoolVar(&fix, "fix", false, "store Stripe's object if a row differs or is missing")
	flags.BoolVar(&config.NoHooks, "no-hooks", false, "with --fix: do not call OnChange")
	flags.BoolVar(&config.Gone, "gone", false, "with --fix: mark rows as canceled whose subscription Stripe does not have any more")
	flags.BoolVar(&config.Force, "force", false, "with --gone: also if these are more than 1 % of the subscriptions")
	flags.StringSliceVar(&config.Accounts, "account", nil, "also these connected `accounts`; accounts that have rows are always included, unless the receiver has an account id")
	flags.IntVar(&config.Rate, "rate", subscriptions.DefaultVerifyRate, "the requests a second to Stripe")
	flags.StringVar(&config.After, "after", "", "resume an interrupted run at its `position`")
	t.addWhere(cmd, &s, false)
	s.addAPI(cmd)
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if fix && t.Remote != nil && !s.here {
			return errWhere(false)
		}
		if err := checkVerify(&config, fix); err != nil {
			return err
		}
		cli.IgnoreBrokenPipe()
		return t.work(cmd.Context(), func(host *Host) error {
			if host.APIKey == "" {
				return operations.ErrNoAPIKey
			}
			config.APIKey, config.APIBase, config.APITimeout = host.APIKey, host.APIBase, s.apiTimeout
			config.Projection, config.AccountID, config.Logger = host.Projection, host.AccountID, t.Logger
			if fix {
				config.Fix = host.Receiver
				if host.Projection == nil {
					return cli.Usage("--fix: this program has no tables of subscriptions")
				}
			}
			return verify(cmd, host, config, out.Of(cmd))
		})
	}
	return cmd
}

// checkVerify refuses flags that do not fit together.
func checkVerify(config *subscriptions.VerifyConfig, fix bool) error {
	switch {
	case config.NoHooks && !fix:
		return cli.Usage("--no-hooks requires --fix: without it nothing is stored")
	case config.Gone && !fix, config.Force && !config.Gone:
		return cli.Usage("--gone requires --fix, and --force requires --gone")
	case config.Rate < 1:
		return cli.Usage("--rate must be at least 1")
	}
	return nil
}

func verify(cmd *cobra.Command, host *Host, config subscriptions.VerifyConfig, out *cli.Output) error {
	progress := cli.NewProgress(cmd)
	var written error
	config.Each = func(d subscriptions.Difference) {
		progress.Clear()
		if out.JSON {
			if err := out.Line(d); written == nil {
				written = err
			}
			return
		}
		out.Printf("%s\n", describe(d))
	}
	config.Progress = func(sum subscriptions.Verified) {
		progress.Show(-1, "%d checked, %d drifted, %d fixed", sum.Checked, sum.Drifted, sum.Fixed)
	}
	sum, err := subscriptions.Verify(cmd.Context(), host.Pool, &config)
	progress.Clear()
	if err != nil && sum.Position != "" {
		err = errors.Join(explain(err), fmt.Errorf("resume with --after %s", sum.Position))
	}
	if err != nil && sum.Checked == 0 {
		return err
	}
	if out.JSON {
		if lineErr := out.Line(sum); written == nil {
			written = lineErr
		}
	}
	out.Printf("%d checked, %d drifted, %d fixed\n", sum.Checked, sum.Drifted, sum.Fixed)
	if sum.Unknown*100 > sum.Checked && !config.Gone {
		out.Hintf("Stripe does not have %s: is the API key of another account or sandbox than these rows? Two of them need a database each, or "+
			"STRIPE_ACCOUNT_ID. Test data that was deleted can be marked as canceled: --fix --gone\n", plural(sum.Unknown, "subscription"))
	}
	switch {
	case err != nil:
		return err
	case sum.Drifted > sum.Fixed:
		return fmt.Errorf("%s not matching Stripe's", plural(sum.Drifted-sum.Fixed, "subscription"))
	}
	return written
}

func describe(d subscriptions.Difference) string {
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
	return string(text)
}
