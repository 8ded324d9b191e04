package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// appliedLine is the JSON of one replayed event.
type appliedLine struct {
	operations.EventResult
	Error string `json:"error,omitempty"`
}

func lineOf(a operations.EventResult) appliedLine {
	line := appliedLine{EventResult: a}
	if a.Err != nil {
		line.Error = a.Err.Error()
	}
	return line
}

// selection is which events replay takes: by id, or by a filter.
type selection struct {
	ids     []string
	all     bool
	outcome string
	since   cli.Moment
	filter  operations.ReplayFilter
	account string // of the events that are named
}

// add adds the flags of the filter.
func (s *selection) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&s.all, "all-failed", false, "all failing events that are not parked, oldest failure first")
	flags.StringVar(&s.filter.Type, "type", "", "only failing events of this `type`; invoice.* matches every type with that prefix")
	flags.Var(&s.since, "since", "only failing events that first failed since this `time`, or ignored events that arrived since, such as 2026-11-24T08:00Z, or 72h for the last 72 hours")
	flags.StringVar(&s.filter.Customer, "customer", "", "only failing events of this `customer` (cus_…)")
	flags.StringVar(&s.filter.Group, "group", "", "only failing events of the group with this `key`; 'failures --group' lists the keys")
	flags.StringVar(&s.outcome, "outcome", "", "set to `ignored` to replay ignored events instead of failing ones, of the last 30 days unless --since is set")
	flags.StringVar(&s.account, "account", "", "only events of this connected `account`; for named events, their account if the ledger does not have it")
}

// check reports wrong use, and completes the filter.
func (s *selection) check(cmd *cobra.Command, ids []string) error {
	s.ids = ids
	s.filter.Outcome, s.filter.Account = webhooks.Outcome(s.outcome), s.account
	narrowed := s.filter.Type != "" || !s.since.IsZero() || s.filter.Customer != "" || s.filter.Group != "" || s.outcome != ""
	switch {
	case (s.all || narrowed) == (len(ids) > 0):
		return cli.Usage("name events, or use --all-failed, or a filter: --type, --since, --customer, --group, --outcome ignored\nsee '%s --help'", cmd.CommandPath())
	case s.outcome != "" && s.filter.Outcome != webhooks.OutcomeIgnored:
		return cli.Usage("--outcome %q: use ignored; failing events need no --outcome, and parked ones are named one by one", s.outcome)
	case s.outcome != "" && (s.all || s.filter.Group != ""):
		return cli.Usage("--outcome ignored and %s are mutually exclusive: ignored events have not failed", map[bool]string{true: "--all-failed", false: "--group"}[s.all])
	}
	s.filter.Since = s.since.Time
	return checkCustomer(s.filter.Customer)
}

func (t *tree) replay() *cobra.Command {
	var s settings
	var selected selection
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "replay EVENT…",
		Short: "Apply failed or ignored events again",
		Long: `Applies events again, as a delivery would. Use it after the cause of their failure is fixed.
The payload comes from the failure record, or else from Stripe, which keeps events for 30 days
(requires STRIPE_API_KEY). An event that has taken effect is a duplicate, so replaying it again
has no effect; to run its handlers again, use reprocess.

Name events, or select failing ones: all of them, or by type, time, customer or group
('failures --group'). --outcome ignored selects ignored events instead, such as events of a
type that has a handler now. --dry-run lists the selected events.

The exit code is 1 if an event still fails. The command stops if the receiver refuses the
connection, rejects the signature or stays unavailable, and prints how many events are left.`,
		Example: `  stripeonce replay evt_1NvKoKIGBnsLynRr --to http://127.0.0.1:4242/webhooks/stripe
  stripeonce replay --all-failed --to http://127.0.0.1:4242/webhooks/stripe
  stripeonce replay --type 'invoice.*' --since 24h --dry-run
  stripeonce replay --outcome ignored --type invoice.paid --since 7d --to http://127.0.0.1:4242/webhooks/stripe`,
		Args: selected.check,
	}
	selected.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only list the events")
	s.addReason(cmd, "")
	t.addWhere(cmd, &s, true)
	s.addAPI(cmd)
	out := cli.NewOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := t.checkWhere(&s, !dryRun); err != nil {
			return err
		}
		cli.IgnoreBrokenPipe()
		return t.work(cmd.Context(), func(host *Host) error {
			o, err := t.operator(host, &s, !dryRun)
			if err != nil {
				return err
			}
			if err := selected.hint(cmd.Context(), out.Of(cmd), o); err != nil {
				return err
			}
			if dryRun {
				return listSelected(cmd.Context(), o, out, &selected)
			}
			if err := t.refuseParked(cmd.Context(), &s, host, o, selected.ids); err != nil {
				return err
			}
			return replay(cmd.Context(), o, out, &selected)
		})
	}
	return cmd
}

func replay(ctx context.Context, o *operations.Operator, out *cli.Output, s *selection) error {
	r := &replayed{out: out, total: len(s.ids), run: o.StartRun(operations.RunReplay, s.arguments())}
	add := func(a operations.EventResult) { r.add(ctx, a) }
	var err error
	if len(s.ids) > 0 {
		err = o.ReplayEvents(ctx, s.ids, s.account, add)
	} else {
		err = o.ReplayAll(ctx, s.filter, add)
	}
	if r.count > r.duplicates {
		r.run.Finish(ctx, r.counts(), err)
	}
	if err != nil {
		return err
	}
	return r.end(s)
}

// arguments are those of the run's record.
func (s *selection) arguments() map[string]any {
	return map[string]any{
		"events": s.ids, "all_failed": s.all, "type": s.filter.Type, "since": s.since.String(), "customer": s.filter.Customer,
		"group": s.filter.Group, "outcome": s.outcome, "account": s.account,
	}
}

// hint says what in the selection may be mistyped, and what it cannot find.
func (s *selection) hint(ctx context.Context, out *cli.Output, o *operations.Operator) error {
	hintTypes(out, s.filter.Type)
	return hintCustomer(ctx, out, o, operations.EventFilter{Customer: s.filter.Customer, Account: s.filter.Account})
}

// none prints that a selection has no events. A group without events is an error: its key may be mistyped.
func (s *selection) none(out *cli.Output) error {
	if s.filter.Group != "" {
		return noGroup(s.filter.Group)
	}
	out.Printf("%s\n", s.noneText())
	return nil
}

func (s *selection) noneText() string {
	switch {
	case s.outcome != "":
		return "No ignored events match."
	case s.filter.Type != "" || !s.since.IsZero() || s.filter.Customer != "" || s.account != "":
		return "No failing events match."
	}
	return "No failing events."
}

// listSelected lists the events that would be replayed, and applies nothing.
func listSelected(ctx context.Context, o *operations.Operator, out *cli.Output, s *selection) error {
	count, unhandled := 0, 0
	each := func(c operations.ReplayCandidate) error {
		count++
		if c.Unhandled {
			unhandled++
		}
		if out.JSON {
			return out.Line(c)
		}
		out.Printf("%s\n", columns(c.EventID, c.EventType, aboutCandidate(&c)))
		return nil
	}
	if len(s.ids) > 0 {
		return listNamed(ctx, o, s.ids, each)
	}
	if err := o.ReplayCandidates(ctx, s.filter, each); err != nil {
		return err
	}
	if count == 0 {
		return s.none(out)
	}
	out.Printf("%s would be replayed", plural(count-unhandled, "event"))
	if unhandled > 0 {
		out.Printf(", and %s would fail: no handler is registered in this process", plural(unhandled, "event"))
	}
	out.Printf("\n")
	return nil
}

// unknownEvent is the state of an event that is neither in the ledger nor among the failures.
const unknownEvent = "unknown"

// listNamed lists named events with their states.
func listNamed(ctx context.Context, o *operations.Operator, ids []string, each func(operations.ReplayCandidate) error) error {
	for _, id := range ids {
		c := operations.ReplayCandidate{EventID: id, State: unknownEvent}
		detail, err := o.EventDetail(ctx, id)
		switch {
		case errors.Is(err, operations.ErrNotFound):
		case err != nil:
			return err
		case detail.Failing():
			c.EventType, c.State, c.FirstFailedAt, c.LastError = detail.Failure.EventType, string(operations.StateFailing), &detail.Failure.FirstFailedAt, detail.Failure.LastError
		case detail.Event != nil:
			c.EventType, c.State, c.ProcessedAt = detail.Event.EventType, string(detail.Event.Outcome), &detail.Event.ProcessedAt
		default:
			c.EventType, c.State = detail.Failure.EventType, string(detail.Failure.State)
		}
		if err := each(c); err != nil {
			return err
		}
	}
	return nil
}

// aboutCandidate describes why an event would be replayed, or what would come of it.
func aboutCandidate(c *operations.ReplayCandidate) string {
	switch {
	case c.State == unknownEvent:
		return "it would be fetched from Stripe"
	case c.State == string(webhooks.OutcomeProcessed), c.State == string(webhooks.OutcomeStale):
		return c.State + ": it would be a duplicate"
	case c.FirstFailedAt != nil:
		return fmt.Sprintf("%s for %s: %s", c.State, cli.Ago(*c.FirstFailedAt), cli.OneLine(strings.TrimPrefix(c.LastError, "handler of "+c.EventType+": ")))
	case c.Unhandled:
		return fmt.Sprintf("%s %s ago; no handler is registered for its type in this process", c.State, cli.Ago(*c.ProcessedAt))
	case c.ProcessedAt != nil:
		return fmt.Sprintf("%s %s ago", c.State, cli.Ago(*c.ProcessedAt))
	}
	return c.State
}

// refuseParked refuses to apply events here that are parked, by a handler or a person (dismissed), after they failed in a receiver whose
// handlers this program does not contain. They would count as applied although those handlers did not run.
func (t *tree) refuseParked(ctx context.Context, s *settings, host *Host, o *operations.Operator, ids []string) error {
	if t.Remote == nil || !s.here {
		return nil
	}
	for _, id := range ids {
		detail, err := o.EventDetail(ctx, id)
		if err != nil || !detail.Parked() || detail.Failure != nil && detail.Failure.Receiver == host.Receiver.Name() {
			continue
		}
		what := "was parked by a handler"
		if detail.Dismissed() {
			what = "is dismissed, after it failed in a handler"
		}
		return cli.Usage("%s %s of the application, which this program does not contain: "+
			"replay it with --to URL, or with the application's own command", cli.OneLine(id), what)
	}
	return nil
}

// replayed prints, counts and records results.
type replayed struct {
	out        *cli.Output
	run        *operations.RunRecording
	total      int // 0: not known
	count      int
	duplicates int // events that had taken effect
	failed     []string
	first      error // of the first failed event
	err        error // of writing
}

func (r *replayed) add(ctx context.Context, a operations.EventResult) {
	r.count++
	if a.Outcome == webhooks.OutcomeDuplicate {
		r.duplicates++
	}
	if a.Err != nil {
		a.Err = cli.Explain(a.Err)
		r.failed = append(r.failed, a.EventID)
		r.first = cmp.Or(r.first, a.Err)
	}
	if r.count > r.duplicates {
		r.run.Progress(ctx, r.counts(), r.share())
	}
	if r.out.JSON {
		if err := r.out.Line(lineOf(a)); r.err == nil {
			r.err = err
		}
		return
	}
	r.out.Printf("%s  %s\n", cli.OneLine(a.EventID), resultText(a))
}

func (r *replayed) counts() map[string]int {
	return map[string]int{"tried": r.count, "failed": len(r.failed)}
}

// share returns how much is done, or 0 if the total is not known.
func (r *replayed) share() float64 {
	if r.total == 0 {
		return 0
	}
	return float64(r.count) / float64(r.total)
}

func resultText(a operations.EventResult) string {
	if a.Err != nil {
		return "failed: " + cli.OneLine(a.Err.Error())
	}
	return string(a.Outcome)
}

// maxNamed is how many failed events the last line of a replay names.
const maxNamed = 3

func (r *replayed) end(s *selection) error {
	if r.count == 0 {
		return s.none(r.out)
	}
	n := len(r.failed)
	if n == 0 {
		return r.err
	}
	names, which := strings.Join(r.failed[:min(n, maxNamed)], ", "), ""
	if n > 1 {
		which = "the first: "
	}
	if n > maxNamed {
		names += fmt.Sprintf(" and %d more", n-maxNamed)
		which = "'failures' lists those that failed; the first: "
	}
	return fmt.Errorf("not applied, %d of %d: %s: %s%s", n, r.count, names, which, cli.OneLine(r.first.Error()))
}
