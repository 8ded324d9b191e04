package commands

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
)

func (t *tree) failures() *cobra.Command {
	var filter operations.FailureFilter
	var state string
	cmd := &cobra.Command{
		Use:   "failures",
		Short: "List failing and parked events",
		Long: `Lists the events whose last attempt failed and that have not been applied since, newest
failure first. An event that is applied later, by Stripe's retry or by replay, is no longer
listed; 'events EVENT' still shows its failed attempts. A parked event (a handler returned
webhooks.Park) is not retried: 'replay EVENT' applies it.`,
		Example: `  stripeonce failures
  stripeonce failures --state parked
  stripeonce failures --json | jq -r '[.event_id, .last_error] | @tsv'`,
		Args: cli.Args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&filter.Before, "before", "", "only events that first failed before this `event`, to continue a listing")
	cmd.Flags().IntVar(&filter.Limit, "limit", operations.DefaultLimit, "the maximum `number` of events")
	cmd.Flags().StringVar(&filter.Account, "account", "", "only events of this `account`")
	cmd.Flags().StringVar(&state, "state", "", "only this `state`: failing or parked")
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch filter.State = operations.FailureState(state); filter.State {
		case "", operations.StateFailing, operations.StateParked:
		default:
			return cli.Usage("--state %q: use failing or parked", state)
		}
		if filter.Limit < 1 {
			return cli.Usage("--limit must be at least 1")
		}
		return t.work(cmd.Context(), func(host *Host) error {
			failures, err := operations.New(host.Pool, nil).Failures(cmd.Context(), filter)
			if err != nil {
				return err
			}
			if err := printFailures(out.Of(cmd), failures, filter.State); err != nil {
				return err
			}
			if n := len(failures); n == filter.Limit && !cmd.Flags().Changed("limit") {
				out.Hintf("%d shown; older ones with --before %s or a higher --limit\n", n, cli.OneLine(failures[n-1].EventID))
			}
			return nil
		})
	}
	return cmd
}

func printFailures(out *cli.Output, failures []operations.Failure, state operations.FailureState) error {
	if out.JSON {
		for i := range failures {
			if err := out.Line(&failures[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(failures) == 0 && state == operations.StateParked {
		out.Printf("No parked events.\n")
		return nil
	}
	if len(failures) == 0 {
		out.Printf("No failing events.\n")
		return nil
	}
	rows := make([][]cli.Cell, len(failures))
	for i := range failures {
		f := &failures[i]
		rows[i] = []cli.Cell{
			{Text: cli.OneLine(f.EventID)}, {Text: cli.OneLine(f.EventType)}, {Text: string(f.State)}, {Text: strconv.Itoa(int(f.Attempts))},
			{Text: cli.Ago(f.FirstFailedAt)}, {Text: cli.Ago(f.LastFailedAt)},
			{Text: cli.OneLine(strings.TrimPrefix(f.LastError, "handler of "+f.EventType+": ")), Color: cli.Red},
		}
	}
	out.Table([]cli.Column{
		{Title: "EVENT"}, {Title: "TYPE", Least: 12}, {Title: "STATE"}, {Title: "ATTEMPTS"}, {Title: "SINCE"}, {Title: "LAST"}, {Title: "ERROR", Least: 24, Tail: true},
	}, rows)
	return nil
}
