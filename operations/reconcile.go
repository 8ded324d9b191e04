package operations

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/internal/eventtypes"
	"github.com/pook/stripeonce/webhooks"
)

// MaxSince is how far back Stripe's lists of events go: https://docs.stripe.com/api/events.
const MaxSince = 30 * 24 * time.Hour

// DefaultBuffer is how many bytes of missing events Reconcile holds before it applies them.
const DefaultBuffer = 32 << 20

// Kind says which of Stripe's lists of events is read.
type Kind string

// The kinds of events that an account delivers.
const (
	// KindAuto is KindThin where the account has destinations for thin events and no endpoint for snapshot
	// events, else KindSnapshot. Where both are delivered, the snapshot's id is the one key of both.
	KindAuto     Kind = "auto"
	KindSnapshot Kind = "snapshot" // /v1/events
	KindThin     Kind = "thin"     // /v2/core/events
)

// ReconcileOptions say what to look for.
type ReconcileOptions struct {
	Since  time.Duration // how far back; at most MaxSince
	DryRun bool          // apply nothing, only tell what is missing, the newest first
	// Types narrows what is looked for to these types and patterns ("invoice.*"). Empty: those that the
	// Applier handles, if it can say, else all.
	Types []string
	// Account is the connected account whose events are listed. Empty: the platform's own.
	Account string
	Kind    Kind // "": KindAuto
	Buffer  int  // bytes; 0: DefaultBuffer
	// Each, if set, is told of each missing event and what came of it, in a dry run with an empty Outcome.
	Each func(Missing)
	// Progress, if set, is told of the figures now and then, with the time of the event that it is at: first
	// back from now, then, while it applies, forward.
	Progress func(Reconciled, time.Time)
}

// Missing is an event that the ledger lacked.
type Missing struct {
	Applied
	EventType string    `json:"event_type"`
	CreatedAt time.Time `json:"event_created_at"`
}

// Reconciled is the sum of a reconciliation.
type Reconciled struct {
	Listed  int `json:"listed"`  // events that Stripe has
	Missing int `json:"missing"` // of these, not in the ledger, or there as ignored and handled by now
	Applied int `json:"applied"` // of these, applied now, which for a type without handlers is to be ignored
	Failed  int `json:"failed"`  // and those that failed
}

// Reconcile goes through Stripe's events of the last time, finds those that the ledger lacks, and applies
// them, the oldest first. It goes on after one that fails. It may be interrupted and run again at any time,
// also twice at once: what has taken effect is a duplicate. When Stripe's API fails for longer than its
// patience, the error says so and the figures how far it came.
func (o *Operator) Reconcile(ctx context.Context, options ReconcileOptions) (Reconciled, error) {
	switch {
	case options.Since <= 0:
		return Reconciled{}, fmt.Errorf("%w: Since must be more than 0", ErrRefused)
	case options.Since > MaxSince:
		return Reconciled{}, fmt.Errorf("%w: Stripe's list of events goes back %d days and no further", ErrRefused, int(MaxSince.Hours()/24))
	case o.config.APIKey == "":
		return Reconciled{}, ErrNoAPIKey
	case o.config.Applier == nil && !options.DryRun:
		return Reconciled{}, ErrNoApplier
	}
	run := &reconciliation{Operator: o, options: options, types: options.Types, thin: options.Kind == KindThin}
	if here, ok := o.config.Applier.(handling); ok {
		run.handles = here.Handles
		if len(run.types) == 0 {
			run.types = here.Types()
		}
	}
	if options.Kind == "" || options.Kind == KindAuto {
		var err error
		if run.thin, err = o.sendsThinOnly(ctx); err != nil {
			return Reconciled{}, err
		}
	}
	err := run.all(ctx, window{from: time.Now().Add(-options.Since)})
	return run.sum, err
}

// reconciliation is one run of Reconcile.
type reconciliation struct {
	*Operator
	options ReconcileOptions
	types   []string
	thin    bool
	handles func(*webhooks.Event) bool // nil: not known
	sum     Reconciled
}

// all goes through a window, which may fall into parts where more is missing than the buffer holds.
func (run *reconciliation) all(ctx context.Context, whole window) error {
	for rest := []window{whole}; len(rest) > 0; {
		oldest := rest[len(rest)-1]
		missing, later, err := run.collect(ctx, oldest)
		if err != nil {
			return err
		}
		rest = append(rest[:len(rest)-1], later...)
		for _, ev := range slices.Backward(missing) {
			if err := run.applyOne(ctx, ev); err != nil {
				return err
			}
		}
	}
	return nil
}

// lacked is an event that the ledger lacks.
type lacked struct {
	*webhooks.Event
	provisional bool // it is there as ignored, and whether it is handled by now is not known
}

// collect lists a window, newest first, and returns what is missing in its oldest part: as much as the
// buffer holds. The parts that come after are to be listed again, and returned with the oldest last.
func (run *reconciliation) collect(ctx context.Context, w window) (missing []lacked, later []window, err error) {
	events := run.open(run.types, run.thin, run.options.Account, w)
	buffer := run.options.Buffer
	if buffer == 0 {
		buffer = DefaultBuffer
	}
	if w.again { // it was cut to one buffer and a batch; a second cut would be a small one
		buffer *= 2
	}
	size, to := 0, w.to
	for more := true; more; {
		var batch []*webhooks.Event
		if batch, more, err = run.batch(ctx, events, !w.again); err != nil {
			return nil, nil, err
		}
		lacking, err := run.lacking(ctx, batch)
		if err != nil {
			return nil, nil, err
		}
		if run.options.DryRun {
			run.tell(lacking)
			lacking = nil
		}
		missing = append(missing, lacking...)
		for _, ev := range lacking {
			size += len(ev.Payload())
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

// unreadable counts what Stripe lists as an event and is none.
func (run *reconciliation) unreadable(one *listed) {
	run.sum.Missing++
	run.sum.Failed++
	if run.options.Each != nil {
		run.options.Each(Missing{Applied: Applied{EventID: one.id, Err: one.err}})
	}
}

// wants is true for the events that are looked for, where Stripe could not be asked for these alone.
func (run *reconciliation) wants(ev *webhooks.Event) bool {
	eventType := ev.Type
	if ev.Thin() {
		trimmed, aboutV1 := strings.CutPrefix(ev.Type, "v1.")
		if !aboutV1 {
			return false
		}
		eventType = trimmed
	}
	return len(run.types) == 0 || slices.ContainsFunc(run.types, func(pattern string) bool { return eventtypes.PatternMatches(pattern, eventType) })
}

// lacking finds, with one question, which events of a batch the ledger lacks. An event that is thin is
// there under its own id or under its snapshot's.
func (run *reconciliation) lacking(ctx context.Context, batch []*webhooks.Event) ([]lacked, error) {
	var ids []string
	for _, ev := range batch {
		ids = append(ids, ev.ID)
		if ev.SnapshotEventID() != "" {
			ids = append(ids, ev.SnapshotEventID())
		}
	}
	rows, err := run.queries.StripeWebhookEventOutcomes(ctx, run.pool, ids)
	if err != nil {
		return nil, fmt.Errorf("look events up in the ledger: %w", err)
	}
	outcomes := map[string]webhooks.Outcome{}
	for _, row := range rows {
		outcomes[row.EventID] = webhooks.Outcome(row.Outcome)
	}
	var lacking []lacked
	for _, ev := range batch {
		own, twin := outcomes[ev.ID], outcomes[ev.SnapshotEventID()]
		ignored := own == webhooks.OutcomeIgnored || twin == webhooks.OutcomeIgnored
		final := own != "" && own != webhooks.OutcomeIgnored || twin != "" && twin != webhooks.OutcomeIgnored
		switch {
		case final, run.handles != nil && !run.handles(ev), run.handles == nil && ignored && run.options.DryRun:
		default:
			lacking = append(lacking, lacked{ev, run.handles == nil && ignored})
		}
	}
	return lacking, nil
}

// tell is what a dry run does with what is missing.
func (run *reconciliation) tell(lacking []lacked) {
	for _, ev := range lacking {
		run.sum.Missing++
		run.each(ev.Event, Applied{EventID: ev.ID})
	}
}

func (run *reconciliation) each(ev *webhooks.Event, what Applied) {
	if run.options.Each != nil {
		run.options.Each(Missing{what, ev.Type, ev.Created})
	}
}

// progress returns the second that the listing has come back to.
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

// applyOne applies a missing event. Only the end of ctx is an error.
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
		run.each(ev.Event, Applied{EventID: ev.ID, Err: err})
	case result.Outcome == webhooks.OutcomeDuplicate, ev.provisional && !effective:
		// It has arrived since, or is still not handled.
	default:
		run.sum.Missing++
		run.sum.Applied++
		run.each(ev.Event, Applied{EventID: result.EventID, Outcome: result.Outcome})
	}
	run.progress([]*webhooks.Event{ev.Event})
	return nil
}
