package operations

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/webhooks"
)

// reprocessPage is how many events are read from the ledger at a time.
const reprocessPage = 200

// ReprocessOptions says which events Reprocess runs again, and which of their handlers. Either Events or one of Since and Customer is
// required, or Resume alone.
type ReprocessOptions struct {
	Events []string // the ids of events
	// Type is an event type, or a pattern that ends in ".*". Empty: every type.
	Type         string
	Since, Until time.Time // the event took effect in this time; a zero Until is the start of the run
	Customer     string    // events of the customer's known objects: see EventFilter.Customer
	Account      string    // the id of an account; empty: any, and events without an account
	Receiver     string    // the name of the receiver that recorded the event (webhooks.Config.Name); empty: any
	Handler      string    // webhooks.ReprocessOptions.Handler
	Hooks        bool      // webhooks.ReprocessOptions.Hooks
	// Count is how often a single event of Events had been reprocessed when it was chosen, such as by the page that showed it: if it has
	// been since, it is skipped. Nil: not known.
	Count *int
	// Again also runs events that have been reprocessed before, whoever did it. By default these are skipped, so that the same options,
	// with the same times, may be given twice.
	Again  bool
	DryRun bool // run nothing, only report the events with their handlers
	// Resume is the id of a run that was interrupted, or in which events failed. Events and options are that run's. Events that it, or
	// anybody else, has reprocessed since it began are left out.
	Resume string
	// Started is called with the run's id before the first handler runs. In a dry run it is not. Optional.
	Started func(run string)
	// Each is called with each event and its result. Optional.
	Each func(ReprocessedEvent)
}

// ReprocessedEvent is the result of reprocessing one event.
type ReprocessedEvent struct {
	EventResult
	EventType string   `json:"event_type,omitempty"`
	Handlers  []string `json:"handlers,omitempty"` // that run, or would in a dry run
	// Earlier is when the event was reprocessed before, of an event that is skipped for that, and EarlierReason why.
	Earlier       *time.Time `json:"reprocessed_at,omitempty"`
	EarlierReason string     `json:"reprocess_reason,omitempty"`
	// Unhandled is why no handler runs for a selected event, which is skipped. Its Outcome is OutcomeIgnored.
	Unhandled string `json:"unhandled,omitempty"`
}

// ReprocessResult counts the events of a run of Reprocess.
type ReprocessResult struct {
	Reprocessed int `json:"reprocessed"` // in a dry run: that would be
	// Skipped are events that were reprocessed before, or by somebody else meanwhile. Their Outcome is OutcomeDuplicate.
	Skipped   int `json:"skipped"`
	Unhandled int `json:"unhandled"` // selected events for which no handler runs, or none of the name
	Failed    int `json:"failed"`    // in a dry run: that cannot be reprocessed
}

// reprocesser is an Applier that has the handlers.
type reprocesser interface {
	Reprocess(ctx context.Context, ev *webhooks.Event, options webhooks.ReprocessOptions) (webhooks.Result, error)
	ReprocessHandlers(ev *webhooks.Event, options webhooks.ReprocessOptions) ([]string, error)
	HandlerNames() []string
}

// reprocessArguments are the arguments of the run's record, from which it can be resumed.
type reprocessArguments struct {
	Events   []string   `json:"events,omitempty"`
	Type     string     `json:"type,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Customer string     `json:"customer,omitempty"`
	Account  string     `json:"account,omitempty"`
	Receiver string     `json:"receiver,omitempty"`
	Handler  string     `json:"handler,omitempty"`
	Hooks    bool       `json:"hooks,omitempty"`
	Again    bool       `json:"again,omitempty"`
	// SelectedAt is when the events were selected, by PostgreSQL's clock. What was reprocessed since then is not the run's any more.
	SelectedAt time.Time `json:"selected_at"`
	Resumes    string    `json:"resumes,omitempty"`
}

// reprocessing is one run of Reprocess.
type reprocessing struct {
	*Operator
	args    reprocessArguments
	options *ReprocessOptions
	applier reprocesser
	reason  string
	record  *RunRecording // nil until the first handler is to run
	sum     ReprocessResult
	stopper stopper
}

// Reprocess runs handlers again for events that took effect, oldest first, on purpose: for a handler that had a bug and returned nil.
// Each event is reprocessed in one transaction: see webhooks.Receiver.Reprocess. An event comes from the payload store, from a failure
// record, or from Stripe, which has it for 30 days. The Applier must be a Receiver, and Config.Reason is required; a resumed run has
// the first one's by default.
//
// An event that has been reprocessed before, also by another operator since the run began, is skipped. Reprocess continues after
// an event that fails. A run with anything to do is recorded, and may be interrupted: Resume continues it. If the Applier stays
// unavailable, the run ends with the error.
func (o *Operator) Reprocess(ctx context.Context, options ReprocessOptions) (ReprocessResult, error) {
	run := &reprocessing{Operator: o, options: &options, reason: strings.TrimSpace(o.config.Reason)}
	if err := run.prepare(ctx); err != nil {
		return ReprocessResult{}, err
	}
	err := run.all(ctx)
	if run.record != nil {
		run.record.Finish(ctx, run.sum, err)
	}
	return run.sum, err
}

// check refuses options that do not fit together.
func (run *reprocessing) check() error {
	options := run.options
	selects := options.Type != "" || !options.Since.IsZero() || !options.Until.IsZero() || options.Customer != "" || options.Account != "" || options.Receiver != ""
	switch {
	case !options.DryRun && options.Resume == "" && run.reason == "":
		return fmt.Errorf("%w: the reason is empty: say why the events are reprocessed", ErrRefused)
	case options.Resume != "" && (len(options.Events) > 0 || selects || options.Handler != "" || options.Hooks || options.Again):
		return fmt.Errorf("%w: a resumed run uses the events and handlers of the first run: name neither", ErrRefused)
	case options.Resume == "" && len(options.Events) > 0 == selects:
		return fmt.Errorf("%w: name events, or select them by type, time and customer", ErrRefused)
	case options.Count != nil && len(options.Events) != 1:
		return fmt.Errorf("%w: Count requires exactly one event", ErrRefused)
	case selects && options.Since.IsZero() && options.Customer == "":
		return fmt.Errorf("%w: set Since or Customer to select the events", ErrRefused)
	case !options.Until.IsZero() && !options.Until.After(options.Since):
		return fmt.Errorf("%w: Until (%s) is not after Since (%s)", ErrRefused,
			options.Until.Format(time.RFC3339), options.Since.Format(time.RFC3339))
	}
	return nil
}

// handlers returns the handlers that the Applier has, or an error if it has none, or none of the name.
func (run *reprocessing) handlers() (reprocesser, error) {
	if run.config.Applier == nil {
		return nil, ErrNoApplier
	}
	here, ok := run.config.Applier.(reprocesser)
	if !ok {
		return nil, fmt.Errorf("%w: reprocessing runs handlers in this process: set Config.Applier to a Receiver", ErrRefused)
	}
	names, name := here.HandlerNames(), run.options.Handler
	switch {
	case name == "" || slices.Contains(names, name):
		return here, nil
	case len(names) == 0:
		return nil, fmt.Errorf("%w: no handler is named %q: this program has no handlers of its own, so use the application's own command", ErrRefused, name)
	}
	return nil, fmt.Errorf("%w: no handler is named %q: use one of %s", ErrRefused, name, strings.Join(names, ", "))
}

// prepare checks the options, and selects the time of the run or takes that of the run that it resumes.
func (run *reprocessing) prepare(ctx context.Context) error {
	var err error
	if run.applier, err = run.handlers(); err != nil {
		return err
	}
	if err := run.check(); err != nil {
		return err
	}
	options := run.options
	if options.Resume != "" {
		return run.resume(ctx, options.Resume)
	}
	now, err := run.queries.ServerClock(ctx, run.pool)
	if err != nil {
		return fmt.Errorf("read the server's clock: %w", err)
	}
	run.args = reprocessArguments{
		Events: options.Events, Type: options.Type, Customer: options.Customer, Account: options.Account, Receiver: options.Receiver,
		Handler: options.Handler, Hooks: options.Hooks, Again: options.Again, SelectedAt: now.UTC(),
	}
	if !options.Since.IsZero() {
		run.args.Since = &options.Since
	}
	if !options.Until.IsZero() {
		run.args.Until = &options.Until
	}
	return nil
}

// begin begins the run's record. A run that finds nothing to do has none.
func (run *reprocessing) begin(ctx context.Context) {
	if run.record != nil {
		return
	}
	run.record = run.StartRun(RunReprocess, run.args)
	run.record.recorder.reason = run.reason
	run.record.Progress(ctx, run.sum, 0)
	if run.options.Started != nil {
		run.options.Started(run.record.ID())
	}
}

// resume takes the arguments of an earlier run.
func (run *reprocessing) resume(ctx context.Context, id string) error {
	earlier, err := run.Run(ctx, id)
	if err != nil {
		return err
	}
	if earlier.Kind != RunReprocess {
		return fmt.Errorf("%w: %s is a run of %s: only runs of reprocess can be resumed", ErrRefused, id, earlier.Kind)
	}
	if err := json.Unmarshal(earlier.Arguments, &run.args); err != nil {
		return fmt.Errorf("the arguments of run %s: %w", id, err)
	}
	run.args.Resumes, run.reason = id, cmp.Or(run.reason, earlier.Reason)
	if !run.options.DryRun && earlier.FinishedAt == nil {
		err = run.queries.StripeWebhookRunInterrupt(ctx, run.pool, runError(errors.New("resumed by another run")), id)
	}
	return err
}

func (run *reprocessing) all(ctx context.Context) error {
	for _, id := range run.args.Events {
		if err := run.named(ctx, id); err != nil {
			return err
		}
	}
	if len(run.args.Events) > 0 {
		return nil
	}
	params, err := run.selection(ctx)
	if err != nil {
		return err
	}
	for {
		rows, err := run.queries.StripeWebhookEventListApplied(ctx, run.pool, *params)
		if err != nil {
			return fmt.Errorf("list the events that took effect: %w", err)
		}
		for i := range rows {
			if err := run.selected(ctx, rows[i].EventID); err != nil {
				return err
			}
		}
		if len(rows) < reprocessPage {
			return nil
		}
		last := rows[len(rows)-1]
		params.After, params.AfterEventID = last.ProcessedAt, last.EventID
	}
}

// selected reprocesses an event of the selection.
func (run *reprocessing) selected(ctx context.Context, id string) error {
	detail, err := run.EventDetail(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && detail.Event == nil: // it has been pruned
		return nil
	case err != nil:
		return err
	}
	return run.one(ctx, detail, true)
}

// selection returns the query of the selected events.
func (run *reprocessing) selection(ctx context.Context) (*db.StripeWebhookEventListAppliedParams, error) {
	params := &db.StripeWebhookEventListAppliedParams{Until: run.args.SelectedAt, AccountID: run.args.Account, Receiver: run.args.Receiver, MaxRows: reprocessPage}
	if prefix, wild := strings.CutSuffix(run.args.Type, "*"); wild {
		params.TypePrefix = prefix
	} else {
		params.EventType = run.args.Type
	}
	if run.args.Since != nil {
		params.After = *run.args.Since
	}
	if run.args.Until != nil && run.args.Until.Before(run.args.SelectedAt) {
		params.Until = *run.args.Until
	}
	if run.args.Customer != "" {
		found, err := run.CustomerObjects(ctx, EventFilter{Customer: run.args.Customer, Account: run.args.Account})
		if err != nil {
			return nil, err
		}
		if found.Truncated {
			run.config.Logger.WarnContext(ctx, "the customer has too many objects: events of the oldest are skipped",
				"customer_id", run.args.Customer, "limit_per_type", MaxCustomerObjects)
		}
		params.ObjectIds = found.IDs
	}
	return params, nil
}

// named reprocesses an event that was named by its id.
func (run *reprocessing) named(ctx context.Context, id string) error {
	detail, err := run.EventDetail(ctx, id)
	switch {
	case err == nil && detail.Event == nil:
		err = webhooks.ErrNotApplied
	case err == nil:
		return run.one(ctx, detail, false)
	case !errors.Is(err, ErrNotFound):
		return err
	}
	run.sum.Failed++
	run.report(ctx, ReprocessedEvent{EventResult: EventResult{EventID: id, Err: err}})
	return nil
}

// one reprocesses an event. Its error ends the run.
func (run *reprocessing) one(ctx context.Context, detail *EventDetail, selected bool) error {
	result := ReprocessedEvent{EventResult: EventResult{EventID: detail.Event.EventID}, EventType: detail.Event.EventType}
	if detail.Event.Outcome != webhooks.OutcomeProcessed && detail.Event.Outcome != webhooks.OutcomeStale {
		run.sum.Failed++
		result.Err = webhooks.ErrNotApplied
		run.report(ctx, result)
		return nil
	}
	if run.options.Count != nil && detail.Event.ReprocessCount != *run.options.Count {
		return run.skip(ctx, detail, result)
	}
	if at := detail.Event.ReprocessedAt; at != nil {
		since := !at.Before(run.args.SelectedAt) // by this run, or by somebody else
		switch {
		case since && run.args.Resumes != "":
			return nil
		case since, !run.args.Again:
			return run.skip(ctx, detail, result)
		}
	}
	err := run.apply(ctx, detail, &result)
	if stop := run.stopper.stops(err); stop != nil {
		return fmt.Errorf("%s: %w", result.EventID, stop)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, webhooks.ErrNotOperator):
		return err
	case errors.Is(err, webhooks.ErrReprocessed):
		return run.skip(ctx, detail, result)
	case selected && errors.Is(err, webhooks.ErrNoHandler):
		run.sum.Unhandled++
		result.Outcome, result.Unhandled = webhooks.OutcomeIgnored, err.Error()
	case err != nil:
		result.Err = err
		run.sum.Failed++
	default:
		run.sum.Reprocessed++
	}
	run.report(ctx, result)
	return nil
}

// skip leaves out an event that has been reprocessed.
func (run *reprocessing) skip(ctx context.Context, detail *EventDetail, result ReprocessedEvent) error {
	run.sum.Skipped++
	result.Outcome, result.Earlier, result.EarlierReason = webhooks.OutcomeDuplicate, detail.Event.ReprocessedAt, engine.OrZero(detail.Event.ReprocessReason)
	run.report(ctx, result)
	return nil
}

func (run *reprocessing) apply(ctx context.Context, detail *EventDetail, result *ReprocessedEvent) error {
	options := webhooks.ReprocessOptions{Handler: run.args.Handler, Hooks: run.args.Hooks, Count: detail.Event.ReprocessCount, Reason: run.reason}
	ev, err := run.fetchEvent(ctx, result.EventID, run.args.Account, detail)
	if err == nil {
		result.Handlers, err = run.applier.ReprocessHandlers(ev, options)
	}
	if run.options.DryRun || errors.Is(err, webhooks.ErrNoHandler) {
		return err
	}
	run.begin(ctx)
	if err != nil {
		return err
	}
	applied, err := run.retryUnavailable(ctx, ev, func(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
		return run.applier.Reprocess(ctx, ev, options)
	})
	result.Outcome = applied.Outcome
	return err
}

func (run *reprocessing) report(ctx context.Context, result ReprocessedEvent) {
	if run.record != nil {
		run.record.Progress(ctx, run.sum, 0)
	}
	if run.options.Each != nil {
		run.options.Each(result)
	}
}
