package operations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/eventtypes"
	"github.com/pook/stripeonce/webhooks"
)

// EventRetention is how long Stripe's API has an event, 30 days: https://docs.stripe.com/api/events. Older events can be neither listed
// nor fetched.
const EventRetention = 30 * 24 * time.Hour

// DefaultReconcileBufferBytes is how many bytes of missing events Reconcile holds before it applies them.
const DefaultReconcileBufferBytes = 32 << 20

// EventPayload is the form in which an account delivers events, as Stripe's event destinations name it: whole events (snapshot), or
// thin ones, which name an object that the receiver fetches. See https://docs.stripe.com/event-destinations.
type EventPayload string

const (
	// PayloadAuto is PayloadThin if the account has destinations for thin events and none for snapshot events, else PayloadSnapshot. An
	// event that is delivered in both forms is recorded under the snapshot event's id.
	PayloadAuto EventPayload = "auto"
	// PayloadSnapshot lists /v1/events.
	PayloadSnapshot EventPayload = "snapshot"
	// PayloadThin lists /v2/core/events.
	PayloadThin EventPayload = "thin"
)

// ReconcileOptions configures Reconcile.
type ReconcileOptions struct {
	Since  time.Duration // how far back; at most EventRetention
	DryRun bool          // apply nothing, only report missing events, newest first
	// Types limits reconciliation to these types and patterns ("invoice.*"). Defaults to the types that the Applier
	// handles, or to all types if it does not know its handlers.
	Types []string
	// Account is the connected account whose events are listed. Empty: the platform's own.
	Account        string
	Payload        EventPayload // the form of the events to list; empty: PayloadAuto
	MaxBufferBytes int          // of missing events held in memory; 0: DefaultReconcileBufferBytes, 32 MiB
	// IncludeWaiting also applies events that failed and whose next retry is due later (stripe_webhook_failures.next_retry_at). By
	// default they are left to their retries, and counted in ReconcileResult.Waiting.
	IncludeWaiting bool
	// Run records the run from its beginning to its end. Nil: a record of its own, written once a missing event was found. A dry run
	// is not recorded. Optional.
	Run *RunRecording
	// Each is called with each missing event and its result. In a dry run the Outcome is empty. Optional.
	Each func(MissingEvent)
	// Progress is called now and then with the numbers so far and the time of the current event, which goes backward while
	// events are listed and forward while they are applied. Optional.
	Progress func(ReconcileResult, time.Time)
}

// MissingEvent is an event that the ledger lacked, with the result of applying it.
type MissingEvent struct {
	EventResult
	EventType string    `json:"event_type"`
	CreatedAt time.Time `json:"event_created_at"`
}

// ReconcileResult is the result of a reconciliation.
type ReconcileResult struct {
	Listed  int `json:"listed"`  // events in Stripe's lists
	Missing int `json:"missing"` // listed events that are not in the ledger, or that are ignored there and handled by now
	Applied int `json:"applied"` // missing events that were applied; without a handler the outcome is ignored
	Failed  int `json:"failed"`  // missing events that failed
	Waiting int `json:"-"`       // events that failed, and that were left to their retries: they do not count as missing
}

// Reconcile lists Stripe's recent events and applies those that the ledger lacks, oldest first. Events whose failure is parked or
// dismissed are left, and those that wait for their next retry, unless IncludeWaiting is set. It continues after an event that
// fails, and stops with ErrReceiver where the receiver is the reason; events that are left then count as missing. It may be
// interrupted, repeated, and run concurrently: an event that has taken effect is a duplicate. If requests to Stripe's API fail
// after all retries, or it is interrupted, Reconcile returns the error together with the numbers so far. A run that found missing
// events is recorded (stripe_webhook_runs).
func (o *Operator) Reconcile(ctx context.Context, options ReconcileOptions) (ReconcileResult, error) {
	switch {
	case options.Since <= 0:
		return ReconcileResult{}, fmt.Errorf("%w: Since must be more than 0", ErrRefused)
	case options.Since > EventRetention:
		return ReconcileResult{}, fmt.Errorf("%w: Stripe lists only the events of the last %d days: use a shorter Since (--since)", ErrRefused, int(EventRetention.Hours()/24))
	case o.config.APIKey == "":
		return ReconcileResult{}, ErrNoAPIKey
	case o.config.Applier == nil && !options.DryRun:
		return ReconcileResult{}, ErrNoApplier
	}
	run := &reconciliation{Operator: o, options: options, types: options.Types, thin: options.Payload == PayloadThin, started: time.Now(), record: options.Run}
	if run.record == nil {
		run.record = o.StartRun(RunReconcile, options.arguments())
	}
	err := run.run(ctx)
	switch {
	case options.DryRun:
	case run.sum.Missing > 0 || options.Run != nil:
		run.record.Finish(ctx, run.sum, err)
	default:
		run.record.Discard(ctx)
	}
	return run.sum, err
}

// arguments are those of the record of the run.
func (options *ReconcileOptions) arguments() map[string]any {
	return map[string]any{"since": options.Since.String(), "types": options.Types, "account": options.Account, "kind": options.Payload}
}

// run determines which lists have the events, and reconciles them.
func (run *reconciliation) run(ctx context.Context) error {
	if here, ok := run.config.Applier.(typed); ok {
		run.handles = here.Handles
		if len(run.types) == 0 {
			run.types = here.Types()
		}
	}
	if run.options.Payload == "" || run.options.Payload == PayloadAuto {
		var err error
		if run.thin, err = run.sendsThinOnly(ctx); err != nil {
			return err
		}
	}
	whole := window{from: run.started.Add(-run.options.Since)}
	err := run.all(ctx, whole)
	if v2 := run.v2Types(); err == nil && !run.thin && len(v2) > 0 { // these are in no list of snapshot events
		run.thin, run.types = true, v2
		err = run.all(ctx, whole)
	}
	return err
}

// v2Types are the requested types of v2 resources. Handlers of these are for exactly one type.
func (run *reconciliation) v2Types() (list []string) {
	for _, one := range run.types {
		if strings.HasPrefix(one, "v2.") && !strings.HasSuffix(one, "*") {
			list = append(list, one)
		}
	}
	return list
}

// reconciliation is one run of Reconcile.
type reconciliation struct {
	*Operator
	options ReconcileOptions
	types   []string
	thin    bool
	handles func(*webhooks.Event) bool // nil: not known
	started time.Time
	record  *RunRecording
	sum     ReconcileResult
	stopper stopper
}

// all reconciles a window. It is divided into parts if more is missing than the buffer holds.
func (run *reconciliation) all(ctx context.Context, whole window) error {
	for rest := []window{whole}; len(rest) > 0; {
		oldest := rest[len(rest)-1]
		missing, later, err := run.collect(ctx, oldest)
		if err != nil {
			run.found(missing)
			return err
		}
		rest = append(rest[:len(rest)-1], later...)
		for i, ev := range slices.Backward(missing) {
			if err := run.applyOne(ctx, ev); errors.Is(err, ErrReceiver) {
				return stoppedBy(err, 1+run.found(missing[:i]), len(rest) > 0) // with this one, which counts already
			} else if err != nil {
				run.found(missing[:i+1])
				return err
			}
		}
	}
	return nil
}

// lacked is an event that the ledger lacks.
type lacked struct {
	*webhooks.Event
	provisional bool // it is recorded as ignored, and whether it has a handler by now is not known
}

// collect lists a window, newest first, and returns the missing events of its oldest part, as many as the buffer holds. It
// also returns the newer parts, oldest last, which must be listed again. With an error it returns what it has found so far.
func (run *reconciliation) collect(ctx context.Context, w window) (missing []lacked, later []window, err error) {
	events := run.open(run.types, run.thin, run.options.Account, w)
	buffer := run.options.MaxBufferBytes
	if buffer == 0 {
		buffer = DefaultReconcileBufferBytes
	}
	if w.again { // it was already cut to one buffer and a batch, so it is not cut again
		buffer *= 2
	}
	size, to := 0, w.to
	for more := true; more; {
		var batch []*webhooks.Event
		if batch, more, err = run.batch(ctx, events, !w.again); err != nil {
			return missing, nil, err
		}
		lacking, err := run.lacking(ctx, batch, !w.again)
		if err != nil {
			return missing, nil, err
		}
		if run.options.DryRun {
			run.report(lacking)
			lacking = nil
		}
		missing = append(missing, lacking...)
		for _, ev := range lacking {
			size += len(ev.Payload())
		}
		if !run.options.DryRun && (len(missing) > 0 || run.sum.Missing > 0 || run.options.Run != nil) {
			run.record.Progress(ctx, run.sum, 0)
		}
		oldest := run.progress(batch)
		if next := oldest.Add(time.Second); more && size > buffer && len(batch) > 0 && !missing[0].Created.Before(next) {
			later = append(later, window{from: next, to: to, again: true})
			to = oldest
			missing = slices.DeleteFunc(missing, func(ev lacked) bool { return !ev.Created.Before(next) })
			size = 0
		}
	}
	return missing, later, nil
}

// batch takes the next hundred events of the lists.
func (run *reconciliation) batch(ctx context.Context, events sources, count bool) (batch []*webhooks.Event, more bool, err error) {
	for len(batch) < 100 {
		one, err := events.next(ctx)
		if one == nil || err != nil {
			return batch, false, err
		}
		if one.err == nil && !run.wants(one.Event) {
			continue
		}
		if count {
			run.sum.Listed++
		}
		if one.err != nil {
			run.unreadable(one)
			continue
		}
		batch = append(batch, one.Event)
	}
	return batch, true, nil
}

// unreadable counts an element of Stripe's list that cannot be parsed as an event.
func (run *reconciliation) unreadable(one *listed) {
	run.sum.Missing++
	run.sum.Failed++
	if run.options.Each != nil {
		run.options.Each(MissingEvent{EventResult: EventResult{EventID: one.id, Err: one.err}})
	}
}

// wants reports whether an event has one of the requested types. Stripe's list may contain others, since it cannot be
// filtered by every type.
func (run *reconciliation) wants(ev *webhooks.Event) bool {
	eventType := ev.Type
	if ev.Thin() {
		trimmed, aboutV1 := strings.CutPrefix(ev.Type, "v1.")
		if !aboutV1 {
			health := ev.Type == webhooks.HealthEvent && len(run.options.Types) == 0
			return health || len(run.types) == 0 || slices.Contains(run.types, ev.Type)
		}
		eventType = trimmed
	}
	return len(run.types) == 0 || slices.ContainsFunc(run.types, func(pattern string) bool { return eventtypes.PatternMatches(pattern, eventType) })
}

// lacking returns the events of a batch that the ledger lacks, with one query. A thin event is recorded under its own id or
// under its snapshot event's.
func (run *reconciliation) lacking(ctx context.Context, batch []*webhooks.Event, count bool) ([]lacked, error) {
	var ids []string
	for _, ev := range batch {
		ids = append(ids, ev.ID)
		if ev.SnapshotEventID() != "" {
			ids = append(ids, ev.SnapshotEventID())
		}
	}
	rows, err := run.queries.StripeWebhookEventStates(ctx, run.pool, ids)
	if err != nil {
		return nil, fmt.Errorf("look up events in the ledger: %w", err)
	}
	states := map[string]db.StripeWebhookEventStatesRow{}
	for _, row := range rows {
		states[row.EventID] = row
	}
	var lacking []lacked
	for _, ev := range batch {
		own, twin := states[ev.ID], states[ev.SnapshotEventID()]
		ignored := isIgnored(&own) || isIgnored(&twin)
		switch {
		case isSettled(&own), isSettled(&twin), run.handles != nil && !run.handles(ev), run.handles == nil && ignored && run.options.DryRun:
		case (own.Waiting || twin.Waiting) && !run.options.IncludeWaiting:
			if count {
				run.sum.Waiting++
			}
		default:
			lacking = append(lacking, lacked{ev, run.handles == nil && ignored})
		}
	}
	return lacking, nil
}

func isIgnored(row *db.StripeWebhookEventStatesRow) bool {
	return row.Outcome == string(webhooks.OutcomeIgnored)
}

// isSettled reports whether an event has taken effect, or waits for a person, or need not be applied.
func isSettled(row *db.StripeWebhookEventStatesRow) bool {
	return row.Outcome != "" && !isIgnored(row) || row.State == string(StateParked) || row.State == string(StateDismissed)
}

// report counts and reports missing events in a dry run.
func (run *reconciliation) report(lacking []lacked) {
	for _, ev := range lacking {
		run.sum.Missing++
		run.each(ev.Event, EventResult{EventID: ev.ID})
	}
}

func (run *reconciliation) each(ev *webhooks.Event, what EventResult) {
	if run.options.Each != nil {
		run.options.Each(MissingEvent{what, ev.Type, ev.Created})
	}
}

// progress reports the progress, and returns the second of the last event of a batch.
func (run *reconciliation) progress(batch []*webhooks.Event) time.Time {
	if len(batch) == 0 {
		return time.Time{}
	}
	at := batch[len(batch)-1].Created.Truncate(time.Second)
	if run.options.Progress != nil {
		run.options.Progress(run.sum, at)
	}
	return at
}

// found counts missing events that are left, since the run ends before them, and returns their number.
func (run *reconciliation) found(missing []lacked) (n int) {
	for _, ev := range missing {
		if !ev.provisional {
			n++
		}
	}
	run.sum.Missing += n
	return n
}

// applyOne applies a missing event. Only the end of ctx, and what stops the run, is an error.
func (run *reconciliation) applyOne(ctx context.Context, ev lacked) error {
	result, err := run.apply(ctx, ev.Event)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	effective := result.Outcome == webhooks.OutcomeProcessed || result.Outcome == webhooks.OutcomeStale
	switch {
	case err != nil:
		run.sum.Missing++
		run.sum.Failed++
		run.each(ev.Event, EventResult{EventID: ev.ID, Err: err})
	case result.Outcome == webhooks.OutcomeDuplicate, ev.provisional && !effective:
		// It has arrived meanwhile, or still has no handler.
	default:
		run.sum.Missing++
		run.sum.Applied++
		run.each(ev.Event, EventResult{EventID: result.EventID, Outcome: result.Outcome})
	}
	run.progress([]*webhooks.Event{ev.Event})
	run.record.Progress(ctx, run.sum, 1-run.started.Sub(ev.Created).Seconds()/run.options.Since.Seconds())
	return run.stopper.stops(err)
}
