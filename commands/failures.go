package commands

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/operationid"
	"github.com/pook/stripeonce/operations"
)

func (t *tree) failures() *cobra.Command {
	var filter operations.FailureFilter
	var state string
	var since cli.Moment
	var group string
	cmd := &cobra.Command{
		Use:   "failures [EVENT]",
		Short: "List failing and parked events, or show the history of one",
		Long: `Lists events whose last attempt failed and that have not been applied since, newest failure
first. An event that a retry or 'replay' applies later is no longer listed; 'events EVENT'
still shows its failed attempts. A parked event (a handler returned webhooks.Park) is not
retried: 'replay EVENT' applies it. Use 'failures dismiss' for an event that need not be
applied.

--group lists failures by cause: by event type, and by the error without ids and numbers.
'failures --group KEY' lists the events of one group.`,
		Example: `  stripeonce failures
  stripeonce failures --type 'invoice.*' --since 24h
  stripeonce failures --group
  stripeonce failures --state parked
  stripeonce failures evt_1NvKoKIGBnsLynRr
  stripeonce failures --json | jq -r '[.event_id, .last_error] | @tsv'`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.Type, "type", "", "only events of this `type`; invoice.* matches every type with that prefix")
	flags.Var(&since, "since", "only events that first failed since this `time`, such as 2026-11-24T08:00Z, or 72h for the last 72 hours")
	flags.StringVar(&filter.Customer, "customer", "", "only events of this `customer` (cus_…)")
	flags.StringVar(&filter.Account, "account", "", "only events of this `account`")
	flags.StringVar(&state, "state", "", "only events of this `state`: failing, parked or dismissed (default: failing and parked)")
	flags.StringVar(&group, "group", "", "list failures grouped by cause; with a group's `key`, list the events of that group")
	flags.Lookup("group").NoOptDefVal = everyGroup
	flags.StringVar(&filter.Before, "before", "", "only events that first failed before this `event` (evt_…), to continue a listing")
	flags.IntVar(&filter.Limit, "limit", operations.DefaultLimit, "the maximum `number` of events or groups")
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter.State, filter.Since = operations.FailureState(state), since.Time
		if err := checkFailures(&filter); err != nil {
			return err
		}
		if group != everyGroup {
			filter.Group = group
		}
		return t.work(cmd.Context(), func(host *Host) error {
			o := operations.New(host.Pool, nil)
			switch {
			case len(args) == 1 && group == "":
				return showFailure(cmd, o, out.Of(cmd), args[0])
			case len(args) == 1:
				filter.Group = args[0]
			case group != "" && filter.Group == "":
				return listGroups(cmd, o, out.Of(cmd), filter)
			}
			return listFailures(cmd, o, out.Of(cmd), filter)
		})
	}
	cmd.AddCommand(t.dismiss())
	return cmd
}

func checkFailures(filter *operations.FailureFilter) error {
	switch filter.State {
	case "", operations.StateFailing, operations.StateParked, operations.StateDismissed:
	default:
		return cli.Usage("--state %q: use failing, parked or dismissed", filter.State)
	}
	if filter.Limit < 1 {
		return cli.Usage("--limit must be at least 1")
	}
	return checkCustomer(filter.Customer)
}

// everyGroup is --group without a key.
const everyGroup = "all"

// noGroup is the error for a group without events. A key stays the same, so its events may have been applied.
func noGroup(key string) error {
	return fmt.Errorf("no failing event is in the group %s: list the groups with 'failures --group'", cli.OneLine(key))
}

// showFailure shows an event as 'events EVENT' does, if it has failed.
func showFailure(cmd *cobra.Command, o *operations.Operator, out *cli.Output, id string) error {
	detail, err := o.EventDetail(cmd.Context(), id)
	switch {
	case err != nil && operationid.IsGroupKey(id):
		return fmt.Errorf("%w: to list the events of a group, use 'failures --group %s'", err, id)
	case err != nil:
		return err
	case detail.Failure == nil:
		return fmt.Errorf("%s has not failed: 'events %s' shows it", cli.OneLine(id), cli.OneLine(id))
	}
	return printDetail(out, id, detail)
}

func listFailures(cmd *cobra.Command, o *operations.Operator, out *cli.Output, filter operations.FailureFilter) error {
	hintTypes(out, filter.Type)
	failures, err := o.Failures(cmd.Context(), filter)
	switch {
	case err != nil:
		return err
	case len(failures) == 0 && filter.Group != "" && filter.Before == "":
		return noGroup(filter.Group)
	}
	if err := printFailures(out, failures, filter); err != nil {
		return err
	}
	if n := len(failures); n == filter.Limit && !cmd.Flags().Changed("limit") {
		out.Hintf("%d shown; older ones with --before %s or a higher --limit\n", n, cli.OneLine(failures[n-1].EventID))
	}
	return nil
}

func printFailures(out *cli.Output, failures []operations.Failure, filter operations.FailureFilter) error {
	if out.JSON {
		for i := range failures {
			if err := out.Line(&failures[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(failures) == 0 {
		out.Printf("%s\n", noFailures(filter))
		return nil
	}
	rows := make([][]cli.Cell, len(failures))
	for i := range failures {
		f := &failures[i]
		text := strings.TrimPrefix(f.LastError, "handler of "+f.EventType+": ")
		if f.State == operations.StateDismissed {
			text = text + " (dismissed: " + reasonOf(f) + ")"
		}
		rows[i] = []cli.Cell{
			{Text: cli.OneLine(f.EventID)}, {Text: cli.OneLine(f.EventType)}, {Text: string(f.State)}, {Text: strconv.Itoa(int(f.Attempts))},
			{Text: cli.Ago(f.FirstFailedAt)}, {Text: cli.Ago(f.LastFailedAt)}, {Text: cli.OneLine(text), Color: cli.Red},
		}
	}
	out.Table([]cli.Column{
		{Title: "EVENT"}, {Title: "TYPE", Least: 12}, {Title: "STATE"}, {Title: "ATTEMPTS"}, {Title: "SINCE"}, {Title: "LAST"}, {Title: "ERROR", Least: 24, Tail: true},
	}, rows)
	return nil
}

func noFailures(filter operations.FailureFilter) string {
	state := filter.State
	if state == "" {
		state = operations.StateFailing
	}
	if filter.Type != "" || filter.Customer != "" || filter.Group != "" || filter.Account != "" || !filter.Since.IsZero() {
		return fmt.Sprintf("No %s events match.", state)
	}
	return fmt.Sprintf("No %s events.", state)
}

// reasonOf returns the reason of a dismissal.
func reasonOf(f *operations.Failure) string {
	if f.Reason == nil {
		return "no reason is recorded"
	}
	return *f.Reason
}

func listGroups(cmd *cobra.Command, o *operations.Operator, out *cli.Output, filter operations.FailureFilter) error {
	hintTypes(out, filter.Type)
	list, err := o.FailureGroups(cmd.Context(), filter)
	if err != nil {
		return err
	}
	if err := printGroups(out, list.Groups, filter); err != nil {
		return err
	}
	if list.More > 0 {
		out.Hintf("%s more; use a higher --limit\n", plural(list.More, "group"))
	}
	if list.Truncated {
		out.Hintf("there are older failures, which are not counted: only the newest records are looked at, at most %d\n", operations.MaxFailuresScanned)
	}
	return nil
}

func printGroups(out *cli.Output, groups []operations.FailureGroup, filter operations.FailureFilter) error {
	if out.JSON {
		for i := range groups {
			if err := out.Line(&groups[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(groups) == 0 {
		out.Printf("%s\n", noFailures(filter))
		return nil
	}
	rows := make([][]cli.Cell, len(groups))
	for i := range groups {
		g := &groups[i]
		count := strconv.Itoa(g.Count)
		if g.Parked > 0 {
			count += fmt.Sprintf(" (%d parked)", g.Parked)
		}
		rows[i] = []cli.Cell{
			{Text: g.Key}, {Text: count}, {Text: cli.OneLine(g.EventType)}, {Text: cli.Ago(g.FirstFailedAt)}, {Text: cli.Ago(g.LastFailedAt)},
			{Text: cli.OneLine(g.EventID)}, {Text: cli.OneLine(g.Error), Color: cli.Red},
		}
	}
	out.Table([]cli.Column{
		{Title: "GROUP"}, {Title: "COUNT"}, {Title: "TYPE", Least: 12}, {Title: "SINCE"}, {Title: "LAST"}, {Title: "EXAMPLE", Least: 12}, {Title: "ERROR", Least: 24, Tail: true},
	}, rows)
	return nil
}
