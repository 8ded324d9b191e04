package commands

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

func (t *tree) reprocess() *cobra.Command {
	r := reprocess{tree: t}
	cmd := &cobra.Command{
		Use:   "reprocess EVENT…",
		Short: "Run handlers again for events that took effect, on purpose",
		Long: `Runs the handlers of events again although they took effect: for a handler that had a bug and
returned nil. Each event is one transaction, with a note in the ledger: when, how often and
why (--reason). Name events, or select those that took effect in a time (--since, --until),
of a type (--type) or of a customer (--customer). Events after the handler was repaired had
their effect: leave them out with --until. --handler runs one handler alone; --dry-run
lists the events with the handlers that would run. OnChange is called only with --hooks, with
the stored row, which does not change.

An event comes from stripe_webhook_payloads, where payloads are kept, from its failure record,
or from Stripe, which has it for 30 days (requires STRIPE_API_KEY). An event that has been
reprocessed before is skipped, unless --again is set, so two operators run each event once. --resume continues a run that was interrupted, or in which
events failed. The exit code is 1 if any event failed. For an event that has not taken effect,
use replay.`,
		Example: `  myapp stripe reprocess --type invoice.paid --since 2026-11-24T08:00:00Z --until 2026-11-24T11:00:00Z \
      --handler credit --dry-run
  myapp stripe reprocess --type invoice.paid --since 2026-11-24T08:00:00Z --until 2026-11-24T11:00:00Z \
      --handler credit --reason "credits were lost, #123"
  myapp stripe reprocess evt_1NvKoKIGBnsLynRr --reason "the receipt was not sent"
  myapp stripe reprocess --resume run_019ac3f2a1b4k7q2m3 --reason "credits were lost, #123"`,
		Args: cobra.ArbitraryArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&r.options.Type, "type", "", "only this event `type`; invoice.* matches every type with that prefix")
	flags.Var(&r.since, "since", "events that took effect since this `time`, such as 2026-11-24T08:00:00Z, or in the last 72h or 30d")
	flags.Var(&r.until, "until", "only events that took effect before this `time`: when the handler was repaired")
	flags.StringVar(&r.options.Customer, "customer", "", "only events about this `customer`'s known objects")
	flags.StringVar(&r.options.Account, "account", "", "only events of this `account`")
	flags.StringVar(&r.options.Receiver, "receiver", "", "only events that the receiver of this `name` recorded (webhooks.Config.Name), such as stripeonce")
	flags.StringVar(&r.options.Handler, "handler", "", "run only the handler of this `name` (webhooks.Name)")
	flags.BoolVar(&r.options.Hooks, "hooks", false, "also call OnChange, with the stored row as Before and After")
	flags.BoolVar(&r.options.Again, "again", false, "also events that have been reprocessed before, which are otherwise skipped")
	flags.BoolVar(&r.options.DryRun, "dry-run", false, "run nothing, list the events with the handlers that would run")
	flags.StringVar(&r.options.Resume, "resume", "", "continue this `run`, with its events and handlers")
	flags.StringVar(&r.reason, "reason", "", "why, as a `text` for the ledger and the record of the run; required")
	t.addWhere(cmd, &r.settings, false)
	r.addAPI(cmd)
	r.out = cli.NewOutput(cmd)
	cmd.RunE = r.run
	return cmd
}

// reprocess is one run of the command.
type reprocess struct {
	*tree
	settings
	options      operations.ReprocessOptions
	since, until cli.Moment
	out          *cli.Output
	err          error // of writing
}

func (r *reprocess) run(cmd *cobra.Command, ids []string) error {
	switch {
	case r.Remote != nil && !r.here:
		return errWhere(false)
	case !r.options.DryRun && strings.TrimSpace(r.reason) == "":
		return cli.Usage("--reason is missing: say why the events are reprocessed; the ledger keeps it")
	}
	r.options.Events = ids
	r.options.Since, r.options.Until = r.since.Time, r.until.Time
	cli.IgnoreBrokenPipe()
	out := r.out.Of(cmd)
	r.options.Started = func(run string) { r.out.Hintf("run %s, which --resume continues if it is interrupted\n", run) }
	r.options.Each = func(e operations.ReprocessedEvent) { r.print(out, e) }
	return r.work(cmd.Context(), func(host *Host) error {
		o, err := r.operator(host, &r.settings, false)
		if err != nil {
			return err
		}
		sum, err := o.Reprocess(cmd.Context(), r.options)
		if err != nil {
			return err
		}
		return r.end(out, sum)
	})
}

// reprocessedLine is the JSON of one reprocessed event.
type reprocessedLine struct {
	operations.ReprocessedEvent
	Error string `json:"error,omitempty"`
}

func (r *reprocess) print(out *cli.Output, e operations.ReprocessedEvent) {
	if out.JSON {
		line := reprocessedLine{ReprocessedEvent: e}
		if e.Err != nil {
			line.Error = e.Err.Error()
		}
		if err := out.Line(line); r.err == nil {
			r.err = err
		}
		return
	}
	result := resultText(e.Applied)
	switch {
	case e.Err != nil:
	case r.options.DryRun:
		result = "would run " + strings.Join(e.Handlers, ", ")
	case e.Outcome == webhooks.OutcomeDuplicate:
		result = "skipped: " + earlier(e)
	default:
		result = "reprocessed"
	}
	out.Printf("%s  %s  %s\n", cli.OneLine(e.EventID), cli.OneLine(e.EventType), result)
}

// earlier says when and why an event was reprocessed before.
func earlier(e operations.ReprocessedEvent) string {
	if e.Earlier == nil {
		return "it has been reprocessed meanwhile"
	}
	return fmt.Sprintf("reprocessed %s ago (%s); --again runs it once more", cli.Ago(*e.Earlier), cli.OneLine(e.EarlierReason))
}

func (r *reprocess) end(out *cli.Output, sum operations.Reprocessed) error {
	if !out.JSON {
		verb := "reprocessed"
		if r.options.DryRun {
			verb = "to reprocess"
		}
		text := fmt.Sprintf("%s %s", plural(sum.Reprocessed, "event"), verb)
		if sum.Skipped > 0 {
			text += fmt.Sprintf(", %d skipped (reprocessed before, or without such a handler)", sum.Skipped)
		}
		if !r.options.Since.IsZero() {
			text += ", since " + cli.Time(r.options.Since)
		}
		if !r.options.Until.IsZero() {
			text += ", until " + cli.Time(r.options.Until)
		}
		out.Printf("%s\n", text)
	}
	if sum.Failed > 0 {
		return fmt.Errorf("not reprocessed: %s of %d; fix the cause, and continue with --resume", plural(sum.Failed, "event"), sum.Failed+sum.Reprocessed)
	}
	return r.err
}
