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
		Short: "Compare every subscription with Stripe's, and mend what differs",
		Long: `Compares every row of the tables of subscriptions with Stripe's current object, both
ways, and names each field that differs with both values. It exits with 1 if anything
differs. It needs STRIPE_API_KEY, and compares only the rows of the key's mode; connected
accounts that have rows are asked, too.

--fix stores Stripe's object where a row differs or is missing, with OnChange, whose
Event is nil then. That is also how the subscriptions that exist already get in on the
first day; --no-hooks leaves OnChange out. A subscription that Stripe does not know is
left as it is.`,
		Example: `  stripeonce verify
  stripeonce verify --json | jq 'select(.field == "status")'
  stripeonce verify --fix --no-hooks --here    # the first import`,
		Args: cli.Args(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.BoolVar(&fix, "fix", false, "store Stripe's object where a row differs or is missing")
	flags.BoolVar(&config.NoHooks, "no-hooks", false, "with --fix: do not call OnChange")
	flags.StringSliceVar(&config.Accounts, "account", nil, "ask these connected `accounts`, too; those that have rows are asked anyway")
	flags.StringVar(&config.After, "after", "", "go on at the `position` at which an earlier run was interrupted")
	t.addWhere(cmd, &s, false)
	s.addAPI(cmd)
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if fix && t.Remote != nil && !s.here {
			return errWhere(false)
		}
		if config.NoHooks && !fix {
			return cli.Usage("--no-hooks needs --fix: without it nothing is stored anyway")
		}
		cli.IgnoreBrokenPipe()
		return t.work(cmd.Context(), func(host *Host) error {
			if host.APIKey == "" {
				return operations.ErrNoAPIKey
			}
			config.APIKey, config.APIBase, config.APITimeout = host.APIKey, host.APIBase, s.apiTimeout
			config.Projection, config.Logger = host.Projection, t.Logger
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
		err = errors.Join(explain(err), fmt.Errorf("to go on from here: --after %s", sum.Position))
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
	switch {
	case err != nil:
		return err
	case sum.Drifted > sum.Fixed:
		return fmt.Errorf("%s not as Stripe has them", plural(sum.Drifted-sum.Fixed, "subscription"))
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
