package commands

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
		Short: "Run handlers again for events that already took effect",
		Long: `Runs the handlers of events again although the events took effect. Use it after a handler had
a bug and returned nil. For an event that has not taken effect, use replay. Each event is
applied in its own transaction, which also records the time, the count and --reason in the
ledger.

Name events, or select them by when they took effect (--since, --until), type (--type) or
customer (--customer). Set --until to the time of the fix: the fixed handler has already
applied later events. A time without a zone is local. --handler runs only one handler.
--dry-run lists the events and the handlers that would run. OnChange is called only with
--hooks, with the stored row, which does not change.

The payload comes from stripe_webhook_payloads, if payloads are kept, from the failure record,
or from Stripe, which keeps events for 30 days (requires STRIPE_API_KEY). An event that was
reprocessed before, by any handler, is skipped, so that two operators run each event once.
--again includes it: for a second broken handler, use --handler with --again. --resume
continues a run that was interrupted or had failed events, with that run's reason. The exit
code is 1 if an event failed.`,
		Example: `  myapp stripe reprocess --type invoice.paid --since 2026-11-24T08:00:00Z --until 2026-11-24T11:00:00Z \
      --handler credit --dry-run
  myapp stripe reprocess --type invoice.paid --since 2026-11-24T08:00:00Z --until 2026-11-24T11:00:00Z \
      --handler credit --reason "credits were lost, #123"
  myapp stripe reprocess evt_1NvKoKIGBnsLynRr --reason "the receipt was not sent"
  myapp stripe reprocess --resume run_019ac3f2a1b4k7q2m3`,
		Args: cobra.ArbitraryArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&r.options.Type, "type", "", "only events of this `type`; invoice.* matches every type with that prefix")
	flags.Var(&r.since, "since", "only events that took effect since this `time`, such as 2026-11-24T08:00Z, or 72h for the last 72 hours")
	flags.Var(&r.until, "until", "only events that took effect before this `time`, such as 2026-11-24T11:00Z, or 2h for two hours ago; usually the time of the fix")
	flags.StringVar(&r.options.Customer, "customer", "", "only events of this `customer` (cus_…), its subscriptions and its mirrored objects")
	flags.StringVar(&r.options.Account, "account", "", "only events of this `account`")
	flags.StringVar(&r.options.Receiver, "receiver", "", "only events that the receiver with this `name` recorded (webhooks.Config.Name), such as stripeonce")
	flags.StringVar(&r.options.Handler, "handler", "", "run only the handler with this `name` (webhooks.Name)")
	flags.BoolVar(&r.options.Hooks, "hooks", false, "also call OnChange, with the stored row as Before and After")
	flags.BoolVar(&r.options.Again, "again", false, "include events that were reprocessed before, which are skipped by default")
	flags.BoolVar(&r.options.DryRun, "dry-run", false, "only list the events and the handlers that would run")
	flags.StringVar(&r.options.Resume, "resume", "", "continue this `run`, with its events and handlers")
	flags.StringVar(&r.reason, "reason", "", "a `text` for the ledger and the record of the run that says why; required, except with --resume")
	t.addWhere(cmd, &r.settings, false)
	r.addAPI(cmd)
	r.out = cli.NewOutput(cmd)
	cmd.RunE = r.execute
	return cmd
}

// reprocess is one run of the command.
type reprocess struct {
	*tree
	settings
	options      operations.ReprocessOptions
	since, until cli.Moment
	out          *cli.Output
	run          string          // its id, once the first handler is to run
	unhandled    map[string]bool // the types of which an event was printed
	err          error           // of writing
}

func (r *reprocess) execute(cmd *cobra.Command, ids []string) error {
	r.options.Events = ids
	r.options.Since, r.options.Until = r.since.Time, r.until.Time
	if err := r.check(); err != nil {
		return err
	}
	cli.IgnoreBrokenPipe()
	out := r.out.Of(cmd)
	r.unhandled = map[string]bool{}
	r.options.Started = func(run string) {
		r.run = run
		out.Hintf("run %s, which --resume continues if it is interrupted\n", run)
	}
	r.options.Each = func(e operations.ReprocessedEvent) { r.print(out, e) }
	return r.work(cmd.Context(), func(host *Host) error {
		o, err := r.operator(host, &r.settings, false)
		if err != nil {
			return err
		}
		if err := r.hint(cmd.Context(), out, o); err != nil {
			return err
		}
		sum, err := o.Reprocess(cmd.Context(), r.options)
		if err != nil {
			return err
		}
		return r.end(out, sum)
	})
}

// check refuses what Reprocess refuses, too, with the names of the flags.
func (r *reprocess) check() error {
	o := &r.options
	selects := o.Type != "" || !o.Until.IsZero() || o.Account != "" || o.Receiver != ""
	switch {
	case r.Remote != nil && !r.here:
		return errWhere(false)
	case !o.DryRun && o.Resume == "" && strings.TrimSpace(r.reason) == "":
		return cli.Usage("--reason is missing: say why the events are reprocessed; it is stored in the ledger")
	case selects && o.Since.IsZero() && o.Customer == "" && len(o.Events) == 0 && o.Resume == "":
		return cli.Usage("--since is missing: set since when the events took effect, or set --customer")
	case !o.Until.IsZero() && !o.Until.After(o.Since):
		return cli.Usage("--until (%s) is not after --since (%s)", cli.Time(o.Until), cli.Time(o.Since))
	}
	return checkCustomer(o.Customer)
}

// hint says what in the selection may be mistyped, and what it cannot find.
func (r *reprocess) hint(ctx context.Context, out *cli.Output, o *operations.Operator) error {
	hintTypes(out, r.options.Type)
	if r.options.Receiver != "" {
		names, err := o.Receivers(ctx)
		if err != nil {
			return err
		}
		if !slices.Contains(names, r.options.Receiver) {
			out.Hintf("--receiver %s recorded none of the newest events: these are of %s\n", cli.OneLine(r.options.Receiver), cmp.Or(strings.Join(names, ", "), "no receiver"))
		}
	}
	return hintCustomer(ctx, out, o, operations.EventFilter{Customer: r.options.Customer, Account: r.options.Account})
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
	result := resultText(e.EventResult)
	switch {
	case e.Err != nil:
	case e.Unhandled != "":
		if r.unhandled[e.EventType] { // one of each type is printed
			return
		}
		r.unhandled[e.EventType] = true
		result = "skipped, as all of its type: " + e.Unhandled
	case e.Outcome == webhooks.OutcomeDuplicate:
		result = "skipped: " + earlier(e)
	case r.options.DryRun:
		result = "would run " + strings.Join(e.Handlers, ", ")
	default:
		result = "reprocessed"
	}
	out.Printf("%s\n", columns(e.EventID, e.EventType, result))
}

// earlier says when and why an event was reprocessed before.
func earlier(e operations.ReprocessedEvent) string {
	if e.Earlier == nil {
		return "it has been reprocessed meanwhile"
	}
	return fmt.Sprintf("reprocessed %s ago (%s); --again runs it once more", cli.Ago(*e.Earlier), cli.OneLine(e.EarlierReason))
}

func (r *reprocess) end(out *cli.Output, sum operations.ReprocessResult) error {
	verb, failed := "reprocessed", "failed"
	if r.options.DryRun {
		verb, failed = "to reprocess", "cannot be reprocessed"
	}
	text := plural(sum.Reprocessed, "event") + " " + verb
	for _, of := range []struct {
		n    int
		text string
	}{{sum.Skipped, "skipped (reprocessed before)"}, {sum.Unhandled, "skipped (no such handler)"}, {sum.Failed, failed}} {
		if of.n > 0 {
			text += fmt.Sprintf(", %d %s", of.n, of.text)
		}
	}
	if !r.options.Since.IsZero() {
		text += ", since " + cli.Time(r.options.Since)
	}
	if !r.options.Until.IsZero() {
		text += ", until " + cli.Time(r.options.Until)
	}
	out.Printf("%s\n", text)
	if sum.Failed == 0 {
		return r.err
	}
	what := fmt.Sprintf("%d of %d", sum.Failed, sum.Failed+sum.Reprocessed)
	switch {
	case r.options.DryRun:
		return fmt.Errorf("events that cannot be reprocessed: %s", what)
	case r.run == "":
		return fmt.Errorf("events that were not reprocessed: %s", what)
	}
	return fmt.Errorf("events that were not reprocessed: %s; fix the cause, and continue with --resume %s", what, r.run)
}
