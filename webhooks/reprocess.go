package webhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
)

var (
	// ErrNotApplied reports that an event cannot be reprocessed, since it has not taken effect: it is not in the ledger, ignored or
	// parked. Replay applies it.
	ErrNotApplied = errors.New("the event has not taken effect: apply it with replay")
	// ErrReprocessed reports that an event was reprocessed after its count was read, by somebody else or by an earlier try.
	ErrReprocessed = errors.New("the event has been reprocessed meanwhile")
	// ErrNoHandler reports that no handler would run for an event.
	ErrNoHandler = errors.New("no handler runs")
	// ErrNotOperator reports that the pool's role may not reprocess events.
	ErrNotOperator = errors.New("the database role may not reprocess events: it lacks UPDATE of the columns reprocessed_at, reprocess_count and " +
		"reprocess_reason of stripe_webhook_events, which deploy/roles.sql grants to the operator's role alone")
)

// ReprocessOptions configures [Receiver.Reprocess].
type ReprocessOptions struct {
	// Handler is the name of the one handler to run: see [Name]. The OnChange of a projection is named after its type:
	// "subscription.OnChange", "invoice.OnChange". Empty: every handler of the event, without those of OnChange.
	Handler string
	// Hooks also calls OnChange of the projections of the event. Before and After are then both the stored row, and Reprocessed is
	// true. The row is not changed.
	Hooks bool
	// Count is how often the event had been reprocessed (reprocess_count) when it was chosen. If it has been since, nothing runs,
	// and the error wraps ErrReprocessed: of two operators who reprocess the same events, one runs each.
	Count int
	// Reason is recorded in the ledger (reprocess_reason). Required.
	Reason string
}

// Reprocess runs the handlers of an event that has taken effect once more, in one transaction with a note in the ledger
// (reprocessed_at, reprocess_count, reprocess_reason). It is for a handler that had a bug and returned nil. The outcome stays as it
// was. The rows of package subscriptions and mirror are not written, and their OnChange is called only if options say so. Handlers of
// On and Project run. An event whose handler fails keeps nothing, and
// gets no record among the failures: the error is the caller's. Replay is for events that have not taken effect.
//
// The error wraps ErrNotApplied, ErrReprocessed, ErrNoHandler or ErrNotOperator where nothing was run, besides those of Apply.
func (r *Receiver) Reprocess(ctx context.Context, ev *Event, options ReprocessOptions) (Result, error) {
	if strings.TrimSpace(options.Reason) == "" {
		return Result{}, errors.New("webhooks.ReprocessOptions.Reason is empty: say why the event is reprocessed")
	}
	if err := storableText("Reason", options.Reason); err != nil {
		return Result{}, err
	}
	if _, err := r.ReprocessHandlers(ev, options); err != nil {
		return Result{}, err
	}
	return r.applyUnlessOverloaded(ctx, ev, purpose{replay: true, reprocess: &options})
}

// ReprocessHandlers returns the names of the handlers that Reprocess would run for an event, in their order. The error wraps ErrNoHandler
// if there are none.
func (r *Receiver) ReprocessHandlers(ev *Event, options ReprocessOptions) ([]string, error) {
	d := r.newDelivery(ev, purpose{replay: true, reprocess: &options})
	if d.takesEffect() {
		return names(d.handlers), nil
	}
	every := names(ReprocessOptions{Hooks: true}.of(r.handlers.all(d)))
	switch {
	case d.lacksKey:
		return nil, fmt.Errorf("%s: there is no API key of its mode to fetch the thin event's object with", ev.ID)
	case len(every) == 0 || !r.AcceptsMode(ev.Livemode):
		return nil, fmt.Errorf("%w for %s: none is registered in this process, or events of its mode are ignored", ErrNoHandler, d.effective.Type)
	case options.Handler != "":
		return nil, fmt.Errorf("%w for %s: none of its handlers is named %q: use one of %s", ErrNoHandler, d.effective.Type, options.Handler, strings.Join(every, ", "))
	default:
		return nil, fmt.Errorf("%w for %s: its only handler, %s, runs only with hooks (--hooks)", ErrNoHandler, d.effective.Type, strings.Join(every, ", "))
	}
}

// HandlerNames returns the names of all handlers that Reprocess can run, in the order of their registration: see [Name].
func (r *Receiver) HandlerNames() []string {
	var list []string
	for _, h := range r.handlers.list {
		if h.again().run != nil && !slices.Contains(list, h.name) {
			list = append(list, h.name)
		}
	}
	return list
}

// of returns which of the handlers of an event run.
func (p ReprocessOptions) of(handlers []handler) (list []handler) {
	for _, h := range handlers {
		isHook := h.plan != nil
		named := h.name == p.Handler || p.Handler == "" && !isHook
		if h = h.again(); h.run != nil && (named || isHook && p.Hooks) {
			list = append(list, h)
		}
	}
	return list
}

// again returns a handler as it runs when an event is reprocessed. That of a projection with rows of its own is the host's hook: its
// run is nil if it has none.
func (h handler) again() handler {
	h.projection = false // it reports no change of its own
	if h.plan == nil {
		return h
	}
	h.plan, h.honorsContext, h.run = nil, false, h.hook
	return h
}

func names(handlers []handler) (list []string) {
	for _, h := range handlers {
		list = append(list, h.name)
	}
	return list
}

// reprocess runs the handlers of an event that took effect. It never does in a batch.
func (t *transaction) reprocess(ctx context.Context, d *delivery) error {
	if err := t.noteReprocessed(ctx, d); err != nil {
		return err
	}
	_, err := t.runHandlers(d.ctx, d)
	d.toRecord = OutcomeProcessed // what the caller gets: the ledger's outcome stays
	return err
}

// noteReprocessed notes in the ledger that an event is reprocessed, before its handlers run. Whoever does the same waits for the row.
func (t *transaction) noteReprocessed(ctx context.Context, d *delivery) error {
	if !d.takesEffect() {
		return fmt.Errorf("%s: the object of the thin event does not exist at Stripe", d.id())
	}
	if outcome := d.ledger.outcome; outcome != OutcomeProcessed && outcome != OutcomeStale {
		return fmt.Errorf("%s: %w", d.id(), ErrNotApplied)
	}
	params := db.StripeWebhookEventReprocessParams{
		EventID: d.id(), Reason: d.reprocess.Reason, ReprocessCount: int32(d.reprocess.Count),
	}
	var rows int64
	err := t.pipe.Send(ctx, []pgpipe.Query{func(ctx context.Context, db pgpipe.DBTX) (err error) {
		rows, err = t.receiver.queries.StripeWebhookEventReprocess(ctx, db, params)
		return pgpipe.Wrap("note in the ledger that the event is reprocessed", err)
	}})
	switch {
	case err == nil && rows == 0:
		return fmt.Errorf("%s: %w", d.id(), ErrReprocessed)
	case fault.Code(err) == fault.InsufficientPrivilege: // not a reason to doubt what deliveries need
		return ErrNotOperator
	}
	return err
}
