package commands

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
)

func (t *tree) runs() *cobra.Command {
	var filter operations.RunFilter
	var kind string
	cmd := &cobra.Command{
		Use:   "runs [RUN]",
		Short: "List runs of backfill, replay, prune and other commands, or show one",
		Long: `Lists the recorded runs of commands that change data, such as backfill, reconcile, replay and
prune, newest first, with their state, counts, operator and error. A run that finds nothing to
change is not recorded. With a run's id it shows that run. A run is "interrupted" if it has not
finished and has made no progress for two minutes. The table is stripe_webhook_runs.`,
		Example: `  stripeonce runs
  stripeonce runs --kind backfill --limit 5
  stripeonce runs --json | jq 'select(.finished_at == null)'`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&kind, "kind", "", "only runs of this `kind`: "+kinds())
	flags.StringVar(&filter.Before, "before", "", "only runs that started before this `run` (run_…), to continue a listing")
	flags.IntVar(&filter.Limit, "limit", operations.DefaultLimit, "the maximum `number` of runs")
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter.Kind = operations.RunKind(kind)
		switch {
		case kind != "" && !slices.Contains(operations.RunKinds(), filter.Kind):
			return cli.Usage("--kind %q: use %s", kind, kinds())
		case filter.Limit < 1:
			return cli.Usage("--limit must be at least 1")
		case filter.Before != "" && !strings.HasPrefix(filter.Before, "run_"):
			return cli.Usage("--before %q: use a run's id (run_…)", filter.Before)
		}
		return t.work(cmd.Context(), func(host *Host) error {
			o := operations.New(host.Pool, nil)
			if len(args) == 1 {
				return showRun(cmd, o, out.Of(cmd), args[0])
			}
			return listRuns(cmd, o, out.Of(cmd), filter)
		})
	}
	return cmd
}

func showRun(cmd *cobra.Command, o *operations.Operator, out *cli.Output, id string) error {
	run, err := o.Run(cmd.Context(), id)
	if err != nil {
		return err
	}
	return printRun(out, run)
}

func listRuns(cmd *cobra.Command, o *operations.Operator, out *cli.Output, filter operations.RunFilter) error {
	runs, err := o.Runs(cmd.Context(), filter)
	if err != nil {
		return err
	}
	if err := printRuns(out, runs); err != nil {
		return err
	}
	if n := len(runs); n == filter.Limit && !cmd.Flags().Changed("limit") {
		out.Hintf("%d shown; older ones with --before %s or a higher --limit\n", n, runs[n-1].ID)
	}
	return nil
}

// kinds names all kinds of runs.
func kinds() string {
	var names []string
	for _, kind := range operations.RunKinds() {
		names = append(names, string(kind))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func printRuns(out *cli.Output, runs []operations.Run) error {
	if out.JSON {
		for i := range runs {
			if err := out.Line(&runs[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(runs) == 0 {
		out.Printf("No runs.\n")
		return nil
	}
	rows := make([][]cli.Cell, len(runs))
	for i := range runs {
		run := &runs[i]
		rows[i] = []cli.Cell{
			{Text: run.ID}, {Text: string(run.Kind)}, stateCell(run), {Text: cli.Time(run.StartedAt)}, {Text: cli.Short(took(run))},
			{Text: cli.OneLine(run.Operator)}, {Text: cli.OneLine(run.CountsText())}, {Text: cli.OneLine(run.Error), Color: cli.Red},
		}
	}
	out.Table([]cli.Column{
		{Title: "RUN"}, {Title: "KIND"}, {Title: "STATE"}, {Title: "STARTED"}, {Title: "TOOK"}, {Title: "OPERATOR", Least: 8},
		{Title: "COUNTS", Least: 16}, {Title: "ERROR", Least: 16},
	}, rows)
	return nil
}

func stateCell(run *operations.Run) cli.Cell {
	state := run.State()
	colors := map[operations.RunState]string{
		operations.RunRunning: cli.Yellow, operations.RunInterrupted: cli.Yellow, operations.RunFailed: cli.Red, operations.RunFinished: cli.Green,
	}
	return cli.Cell{Text: string(state) + percent(run), Color: colors[state]}
}

// percent is how much of an unfinished run is done, if that is known.
func percent(run *operations.Run) string {
	if run.FinishedAt != nil || run.Share == nil {
		return ""
	}
	return fmt.Sprintf(" %.0f%%", *run.Share*100)
}

// took is how long a run took, or has taken until its last progress.
func took(run *operations.Run) time.Duration {
	end := run.UpdatedAt
	if run.FinishedAt != nil {
		end = *run.FinishedAt
	}
	return end.Sub(run.StartedAt)
}

func printRun(out *cli.Output, run *operations.Run) error {
	if out.JSON {
		return out.Line(run)
	}
	out.Printf("%s  %s\n", run.ID, run.Kind)
	line := func(name, value string) { out.Printf("  %-13s %s\n", name, cli.OneLine(cmp.Or(value, "-"))) }
	line("state", string(run.State())+percent(run))
	line("started", when(run.StartedAt))
	if run.FinishedAt == nil {
		line("last progress", when(run.UpdatedAt))
	} else {
		line("finished", when(*run.FinishedAt)+", after "+cli.Short(took(run)))
	}
	line("arguments", run.ArgumentsText())
	line("counts", run.CountsText())
	for _, field := range run.Differences() {
		line("differs", field)
	}
	line("operator", run.Operator)
	line("reason", run.Reason)
	line("host", run.Host)
	if run.Error != "" {
		line("error", run.Error)
	}
	return nil
}
