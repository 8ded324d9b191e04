package commands

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

func (t *tree) events() *cobra.Command {
	var filter operations.EventFilter
	var outcome string
	var since cli.Moment
	var out *cli.Output
	cmd := &cobra.Command{
		Use:   "events [EVENT]",
		Short: "List received events, newest first, or show the history of one",
		Long: `Lists processed, stale, ignored and parked events, newest first. Use it to find out whether
an event arrived, and what its outcome was. With an event's id it shows the event's history:
when the event was created, when it took effect, its outcome, and each failed attempt.
Failing events are listed by 'failures'.`,
		Example: `  stripeonce events --since 24h --outcome ignored
  stripeonce events --customer cus_NffrFeUfNV2Hib
  stripeonce events --object sub_1NvKoKIGBnsLynRr
  stripeonce events evt_1NvKoKIGBnsLynRr
  stripeonce events --json --limit 1000 | jq -r .event_type | sort | uniq -c`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.Type, "type", "", "only events of this `type`; invoice.* matches every type with that prefix")
	flags.StringVar(&outcome, "outcome", "", "only events with this `outcome`: processed, stale, ignored or parked")
	flags.StringVar(&filter.ObjectID, "object", "", "only events about the object with this `id`")
	flags.StringVar(&filter.Customer, "customer", "", "only events of this `customer` (cus_…), its subscriptions and its mirrored objects")
	flags.StringVar(&filter.Account, "account", "", "only events of this `account`")
	flags.Var(&since, "since", "only events that took effect since this `time`, such as 2026-11-24T08:00Z, or 72h for the last 72 hours")
	flags.StringVar(&filter.Before, "before", "", "only events that took effect before this `event` (evt_…), to continue a listing")
	flags.IntVar(&filter.Limit, "limit", operations.DefaultLimit, "the maximum `number` of events")
	out = cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch filter.Outcome = webhooks.Outcome(outcome); filter.Outcome {
		case "", webhooks.OutcomeProcessed, webhooks.OutcomeStale, webhooks.OutcomeIgnored, webhooks.OutcomeParked:
		default:
			return cli.Usage("--outcome %q: use processed, stale, ignored or parked; failing events are in 'failures'", outcome)
		}
		switch {
		case filter.Limit < 1:
			return cli.Usage("--limit must be at least 1")
		case filter.ObjectID != "" && filter.Customer != "":
			return cli.Usage("--object and --customer are mutually exclusive: the events of a customer are those of all its objects")
		}
		if err := checkCustomer(filter.Customer); err != nil {
			return err
		}
		filter.Since = since.Time
		return t.work(cmd.Context(), func(host *Host) error {
			o := operations.New(host.Pool, nil)
			if len(args) == 1 {
				return showDetail(cmd, o, out.Of(cmd), args[0])
			}
			return listEvents(cmd, o, out.Of(cmd), filter)
		})
	}
	return cmd
}

func showDetail(cmd *cobra.Command, o *operations.Operator, out *cli.Output, id string) error {
	detail, err := o.EventDetail(cmd.Context(), id)
	if err != nil {
		return err
	}
	return printDetail(out, id, detail)
}

func listEvents(cmd *cobra.Command, o *operations.Operator, out *cli.Output, filter operations.EventFilter) error {
	events, err := o.Events(cmd.Context(), filter)
	if err != nil {
		return err
	}
	if err := printEvents(out, events); err != nil {
		return err
	}
	if n := len(events); n == filter.Limit && !cmd.Flags().Changed("limit") {
		out.Hintf("%d shown; older ones with --before %s or a higher --limit\n", n, cli.OneLine(events[n-1].EventID))
	}
	hintTypes(out, filter.Type)
	return hintCustomer(cmd.Context(), out, o, filter)
}

func printEvents(out *cli.Output, events []operations.Event) error {
	if out.JSON {
		for i := range events {
			if err := out.Line(&events[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(events) == 0 {
		out.Printf("No events.\n")
		return nil
	}
	rows := make([][]cli.Cell, len(events))
	for i := range events {
		e := &events[i]
		rows[i] = []cli.Cell{
			{Text: cli.Time(e.ProcessedAt)}, {Text: cli.Ago(e.ProcessedAt)}, outcomeCell(e.Outcome),
			{Text: cli.OneLine(e.EventType)}, {Text: cli.OneLine(text(e.ObjectID))}, {Text: cli.OneLine(e.EventID)},
		}
	}
	out.Table([]cli.Column{
		{Title: "TOOK EFFECT"}, {Title: "AGO"}, {Title: "OUTCOME"}, {Title: "TYPE", Least: 16}, {Title: "OBJECT", Least: 12}, {Title: "EVENT"},
	}, rows)
	return nil
}

func outcomeCell(outcome webhooks.Outcome) cli.Cell {
	colors := map[webhooks.Outcome]string{
		webhooks.OutcomeProcessed: cli.Green, webhooks.OutcomeStale: cli.Yellow, webhooks.OutcomeIgnored: cli.Faint,
		webhooks.OutcomeDuplicate: cli.Faint, webhooks.OutcomeParked: cli.Red,
	}
	return cli.Cell{Text: string(outcome), Color: colors[outcome]}
}

func text(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

// detailLine is the JSON of an event's ledger row, if there is one, with its failure record.
type detailLine struct {
	EventID   string     `json:"event_id"`
	EventType string     `json:"event_type"`
	CreatedAt *time.Time `json:"event_created_at"`
	*operations.Event
	Failure *operations.Failure `json:"failure"`
}

func printDetail(out *cli.Output, id string, detail *operations.EventDetail) error {
	e, f := detail.Event, detail.Failure
	eventType := ""
	if f != nil {
		eventType = f.EventType
	}
	if e != nil {
		eventType = e.EventType
	}
	if out.JSON {
		return out.Line(detailLine{id, eventType, detail.CreatedAt(), e, f})
	}
	line := func(name, value string) { out.Printf("  %-12s %s\n", name, value) }
	out.Printf("%s  %s\n", cli.OneLine(id), cli.OneLine(eventType))
	created := detail.CreatedAt()
	if created != nil {
		line("created", when(*created))
	}
	printOutcome(line, detail, created)
	if e == nil {
		printAbout(line, f)
	} else {
		line("object", cli.OneLine(text(e.ObjectID)))
		line("account", cli.OneLine(text(e.AccountID)))
		line("mode", mode(e.Livemode))
		line("api version", cli.OneLine(text(e.APIVersion)))
		if e.ReprocessedAt != nil {
			line("reprocessed", fmt.Sprintf("%s, the last %s: %s", plural(e.ReprocessCount, "time"), when(*e.ReprocessedAt), cli.OneLine(text(e.ReprocessReason))))
		}
	}
	if f != nil {
		printAttempts(out, detail)
	}
	return nil
}

// printAbout prints what is known of an event that the ledger lacks: from the payload of its failure.
func printAbout(line func(name, value string), f *operations.Failure) {
	if ev, err := webhooks.ParseEvent(f.Payload); err == nil {
		line("object", cli.OneLine(cmp.Or(ev.ObjectID(), ev.CustomerID(), "-")))
		line("mode", mode(ev.Livemode))
	}
	line("account", cli.OneLine(text(f.AccountID)))
}

func printOutcome(line func(name, value string), detail *operations.EventDetail, created *time.Time) {
	e := detail.Event
	switch {
	case e == nil && detail.Dismissed():
		line("outcome", "dismissed: "+cli.OneLine(reasonOf(detail.Failure)))
	case e == nil:
		line("outcome", "failing: the event has not taken effect")
	case e.Outcome == webhooks.OutcomeIgnored:
		line("seen", when(e.ProcessedAt))
		switch {
		case detail.Failing() && e.ProcessedAt.Before(detail.Failure.FirstFailedAt):
			line("outcome", "ignored, then failing: the event has not taken effect")
		case detail.Failing():
			line("outcome", "failing, then ignored by the receiver "+cli.OneLine(e.Receiver)+": the event has not taken effect")
		default:
			line("outcome", "ignored: it had no handler, was of the other mode, or is a thin event without an API key or its object; 'replay EVENT' tries again")
		}
	case detail.Dismissed() && detail.Parked():
		line("parked", when(e.ProcessedAt))
		line("outcome", "dismissed: "+cli.OneLine(reasonOf(detail.Failure))+"; 'replay EVENT' applies it")
	case e.Outcome == webhooks.OutcomeParked:
		line("parked", when(e.ProcessedAt))
		line("outcome", "parked by a handler: 'replay EVENT' applies it")
	default:
		took := when(e.ProcessedAt)
		if created != nil {
			took += ", " + cli.Short(e.ProcessedAt.Sub(*created)) + " after it was created"
		}
		line("took effect", took)
		line("outcome", string(e.Outcome))
	}
}

func printAttempts(out *cli.Output, detail *operations.EventDetail) {
	f := detail.Failure
	since := ""
	if !detail.Failing() && !detail.Parked() && !detail.Dismissed() {
		since = "; it has been applied since"
	}
	out.Printf("  %-12s %s, the first %s%s\n", "failed", plural(int(f.Attempts), "time"), when(f.FirstFailedAt), since)
	if f.NextRetryAt != nil && detail.Failing() {
		out.Printf("  %-12s %s (in %s), where a retrier runs; %d so far\n", "next retry", cli.Time(*f.NextRetryAt), cli.Short(time.Until(*f.NextRetryAt)), f.Retries)
	}
	if dropped := int(f.Attempts) - len(f.History); dropped > 0 {
		out.Printf("    … %s earlier\n", plural(dropped, "attempt"))
	}
	for _, attempt := range f.History {
		out.Printf("    %s  %s\n", cli.Time(attempt.At), cli.OneLine(attempt.Error))
		if attempt.TraceID != "" {
			out.Printf("      trace %s\n", cli.OneLine(attempt.TraceID))
		}
	}
	if f.Payload == nil {
		out.Printf("  %-12s not stored; replay fetches it from Stripe\n", "payload")
	}
}

func mode(livemode bool) string {
	if livemode {
		return "live"
	}
	return "test"
}

func when(at time.Time) string { return cli.Time(at) + " (" + cli.Ago(at) + " ago)" }
