package commands

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
)

func (t *tree) erase() *cobra.Command {
	var options operations.EraseOptions
	var yes bool
	var reason string
	cmd := &cobra.Command{
		Use:   "erase --customer CUSTOMER",
		Short: "Permanently remove a customer's data",
		Long: `Removes all stored data of a customer, in live and in test mode: subscriptions, mirrored
objects, kept payloads, the payloads and errors of failures, and the objects' ids in the
ledger. Event ids and outcomes stay, so a redelivery is still a duplicate. Later events,
backfill and verify do not restore the data.

Without --yes the command only shows what it would remove. Erase or redact the customer at
Stripe first. docs/privacy.md explains this, and lists the data that the command does not
reach. The command can be interrupted and run again. The first erasure in a database waits
one minute, until every receiver checks for erased customers.`,
		Example: `  stripeonce erase --customer cus_NffrFeUfNV2Hib
  stripeonce erase --customer cus_NffrFeUfNV2Hib --yes --reason 'request 4711'`,
		Args: cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&options.Customer, "customer", "", "the `customer` to erase (cus_…); required")
	cmd.Flags().StringVar(&options.Account, "account", "", "the connected `account` of the customer")
	cmd.Flags().BoolVar(&yes, "yes", false, "remove the data; without it, only show what would be removed")
	cmd.Flags().StringVar(&reason, "reason", "", "a `text` for the record that says why, without personal data; required with --yes")
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkErase(&options, yes, reason); err != nil {
			return err
		}
		options.DryRun = !yes
		return t.work(cmd.Context(), func(host *Host) error {
			progress := cli.NewProgress(cmd)
			options.Progress = func(e operations.EraseResult) { progress.Show(-1, "%d rows", e.Rows()) }
			options.Waiting = func(wait time.Duration) {
				out.Of(cmd).Hintf("waiting %s until all receivers look for erased customers: this is the first erasure in the database\n", wait)
			}
			o := operations.New(host.Pool, &operations.Config{AccountID: host.AccountID, Reason: reason, Logger: t.Logger})
			erased, err := o.Erase(cmd.Context(), options)
			progress.Clear()
			if err != nil && erased.Empty() {
				return err
			}
			return errors.Join(err, printErased(out.Of(cmd), &erased, &options))
		})
	}
	return cmd
}

func checkErase(options *operations.EraseOptions, yes bool, reason string) error {
	switch {
	case options.Customer == "":
		return cli.Usage("--customer is missing: name the customer, such as --customer cus_NffrFeUfNV2Hib")
	case yes && strings.TrimSpace(reason) == "":
		return cli.Usage("--reason is missing: say why, for the record (stripe_webhook_runs), without personal data")
	}
	return checkCustomer(options.Customer)
}

// erasedSum is the last line of the JSON.
type erasedSum struct {
	operations.EraseResult
	DryRun bool `json:"dry_run"`
}

func printErased(out *cli.Output, e *operations.EraseResult, options *operations.EraseOptions) error {
	if out.JSON {
		for i := range e.List {
			if err := out.Line(&e.List[i]); err != nil {
				return err
			}
		}
		return out.Line(erasedSum{*e, options.DryRun})
	}
	if e.Empty() {
		out.Printf("Nothing is stored of %s any more: it was erased before.\n", cli.OneLine(options.Customer))
		return nil
	}
	out.Table([]cli.Column{{Title: "TABLE"}, {Title: "ROWS"}, {Title: "WHAT", Least: 24}}, [][]cli.Cell{
		{{Text: "subscriptions"}, number(e.Subscriptions), {Text: "deleted"}},
		{{Text: "subscription_items"}, number(e.Items), {Text: "deleted"}},
		{{Text: "stripe_objects"}, number(e.Objects), {Text: "deleted" + typesOf(e.List)}},
		{{Text: "stripe_webhook_payloads"}, number(e.Payloads), {Text: "deleted"}},
		{{Text: "stripe_webhook_failures"}, number(e.Failures), {Text: "payload and error removed"}},
		{{Text: "stripe_webhook_events"}, number(e.Events), {Text: "object_id removed"}},
		{{Text: "stripe_webhook_runs"}, number(e.Runs), {Text: "the customer's id replaced by its hash"}},
	})
	if options.DryRun {
		out.Printf("Dry run: nothing was removed. To remove it: --yes --reason TEXT\n")
	}
	return nil
}

func number(n int64) cli.Cell { return cli.Cell{Text: strconv.FormatInt(n, 10)} }

// typesOf counts mirrored objects by their types.
func typesOf(list []operations.ErasedObject) string {
	counts := map[string]int{}
	for i := range list {
		if list[i].Table == "stripe_objects" {
			counts[list[i].Type]++
		}
	}
	var parts []string
	for _, object := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", object, counts[object]))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}
