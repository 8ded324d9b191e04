package operations

import (
	"cmp"
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

// candidatePage is how many events ReplayCandidates reads at a time.
const candidatePage = 1000

// ReplayFilter selects events to apply again. The zero value selects every failing event. Parked events are selected by State and
// Group alone, and dismissed ones never: Replay takes these one by one.
type ReplayFilter struct {
	// Outcome is empty for failing events, or webhooks.OutcomeIgnored for the ledger's ignored events, such as those of a type that
	// has got a handler.
	Outcome webhooks.Outcome
	Type    string // an event type, or a pattern that ends in ".*"; empty: every type
	// Since is the earliest time of an event's first failure, or of when an ignored event was seen. Zero: any; for ignored events
	// EventRetention ago, since Stripe has no older ones.
	Since    time.Time
	Customer string // the id of a customer, as in FailureFilter and in EventFilter; empty: any
	Group    string // the key of a FailureGroup, for failing and parked events; empty: any
	Account  string // the id of an account; empty: any, and events without an account
	Receiver string // of failing and parked events, the name of the receiver in which they failed last; empty: any
	// State is StateParked for the parked events of Group, which is required then: a person has decided that they are to be applied.
	// Empty: failing events.
	State FailureState
}

// ReplayCandidate is an event that a ReplayFilter selects. The JSON names are the columns'.
type ReplayCandidate struct {
	EventID   string `json:"event_id"`
	EventType string `json:"event_type"`
	// State is "failing", "parked" or "ignored". FirstFailedAt and LastError are those of a failing or parked event, and ProcessedAt is
	// when an ignored event was seen.
	State         string     `json:"state"`
	FirstFailedAt *time.Time `json:"first_failed_at,omitempty"`
	LastError     string     `json:"last_error,omitempty"`
	ProcessedAt   *time.Time `json:"processed_at,omitempty"`
	// Unhandled reports that the Applier, which knows its handlers, has none for the type of an ignored event: applying it fails.
	Unhandled bool `json:"unhandled,omitempty"`
}

// ReplayCandidates calls each with the events that ReplayAll would apply again, the oldest first failure first, and applies nothing. It
// leaves out events that fail after it began. An error of each ends it, and is returned.
func (o *Operator) ReplayCandidates(ctx context.Context, f ReplayFilter, each func(ReplayCandidate) error) error {
	began, err := o.queries.ServerClock(ctx, o.pool)
	if err != nil {
		return fmt.Errorf("read the server's clock: %w", err)
	}
	switch {
	case f.Outcome == webhooks.OutcomeIgnored && (f.Group != "" || f.State != ""):
		return fmt.Errorf("%w: an ignored event has no error, and is in no group", ErrRefused)
	case f.Outcome == webhooks.OutcomeIgnored && f.Customer != "":
		return o.ignoredOfCustomer(ctx, f, each)
	case f.Outcome == webhooks.OutcomeIgnored:
		return o.ignored(ctx, f, began, each)
	case f.Outcome != "":
		return fmt.Errorf("%w: events of the outcome %q are not replayed by a filter: use ignored, or none for failing events", ErrRefused, f.Outcome)
	case f.State == StateParked && f.Group == "":
		return fmt.Errorf("%w: parked events are replayed by their group, or one by one: set ReplayFilter.Group", ErrRefused)
	case f.State != "" && f.State != StateFailing && f.State != StateParked:
		return fmt.Errorf("%w: events of the state %q are not replayed by a filter: use failing or parked", ErrRefused, f.State)
	case f.State == StateParked, f.Customer != "":
		return o.ofWalk(ctx, f, each)
	}
	return o.failing(ctx, f, began, each)
}

func (o *Operator) failing(ctx context.Context, f ReplayFilter, until time.Time, each func(ReplayCandidate) error) error {
	page := db.StripeWebhookFailureListOldestParams{After: f.Since, Until: until, AccountID: f.Account, MaxRows: candidatePage}
	page.EventType, page.TypePrefix = typeAndPrefix(f.Type)
	for {
		rows, err := o.queries.StripeWebhookFailureListOldest(ctx, o.pool, page)
		if err != nil {
			return fmt.Errorf("list the failures: %w", err)
		}
		for _, row := range rows {
			one := brief(row)
			if f.Group != "" && one.group() != f.Group || !f.isOf(one.Receiver) {
				continue
			}
			if err := each(one.candidate(StateFailing)); err != nil {
				return err
			}
		}
		if len(rows) < candidatePage {
			return nil
		}
		page.After, page.AfterEventID = rows[len(rows)-1].FirstFailedAt, rows[len(rows)-1].EventID
	}
}

// isOf reports whether the filter selects what failed in a receiver.
func (f *ReplayFilter) isOf(receiver string) bool { return f.Receiver == "" || f.Receiver == receiver }

// ofWalk is failing for parked events, and for those of a customer: there is no listing of these that begins with the oldest.
func (o *Operator) ofWalk(ctx context.Context, f ReplayFilter, each func(ReplayCandidate) error) error {
	var newestFirst []ReplayCandidate
	filter := FailureFilter{
		State: cmp.Or(f.State, StateFailing), Type: f.Type, Since: f.Since, Customer: f.Customer, Group: f.Group, Account: f.Account, MaxScanned: allRecords,
	}
	cut, err := o.walkFailures(ctx, filter, func(one *brief) bool {
		if f.isOf(one.Receiver) {
			newestFirst = append(newestFirst, one.candidate(filter.State))
		}
		return true
	})
	if err != nil {
		return err
	}
	o.warnOfCut(ctx, f.Customer, cut)
	return backward(newestFirst, each)
}

// warnOfCut warns that the oldest of a customer's events were left out.
func (o *Operator) warnOfCut(ctx context.Context, customer string, cut bool) {
	if cut {
		o.config.Logger.WarnContext(ctx, "the customer has too many events: the oldest are skipped",
			"customer_id", customer, "limit", maxOfCustomer, "fix", "run the command again, or select by type")
	}
}

func (b *brief) candidate(state FailureState) ReplayCandidate {
	at := b.FirstFailedAt.UTC()
	return ReplayCandidate{EventID: b.EventID, EventType: b.EventType, State: string(state), FirstFailedAt: &at, LastError: b.LastError}
}

// sinceOrStripes returns the filter's Since for ignored events.
func (f *ReplayFilter) sinceOrStripes() time.Time {
	if f.Since.IsZero() {
		return time.Now().Add(-EventRetention)
	}
	return f.Since
}

func (o *Operator) ignored(ctx context.Context, f ReplayFilter, until time.Time, each func(ReplayCandidate) error) error {
	page := db.StripeWebhookEventListIgnoredParams{After: f.sinceOrStripes(), Until: until, AccountID: f.Account, MaxRows: candidatePage}
	page.EventType, page.TypePrefix = typeAndPrefix(f.Type)
	for {
		rows, err := o.queries.StripeWebhookEventListIgnored(ctx, o.pool, page)
		if err != nil {
			return fmt.Errorf("list the events: %w", err)
		}
		for _, row := range rows {
			if err := each(o.ignoredCandidate(row.EventID, row.EventType, row.ProcessedAt)); err != nil {
				return err
			}
		}
		if len(rows) < candidatePage {
			return nil
		}
		page.After, page.AfterEventID = rows[len(rows)-1].ProcessedAt, rows[len(rows)-1].EventID
	}
}

func (o *Operator) ignoredOfCustomer(ctx context.Context, f ReplayFilter, each func(ReplayCandidate) error) error {
	events, err := o.Events(ctx, EventFilter{
		Customer: f.Customer, Outcome: f.Outcome, Type: f.Type, Since: f.sinceOrStripes(), Account: f.Account, Limit: maxOfCustomer,
	})
	if err != nil {
		return err
	}
	o.warnOfCut(ctx, f.Customer, len(events) == maxOfCustomer)
	newestFirst := make([]ReplayCandidate, len(events))
	for i, ev := range events {
		newestFirst[i] = o.ignoredCandidate(ev.EventID, ev.EventType, ev.ProcessedAt)
	}
	return backward(newestFirst, each)
}

func (o *Operator) ignoredCandidate(id, eventType string, seen time.Time) ReplayCandidate {
	at := seen.UTC()
	return ReplayCandidate{EventID: id, EventType: eventType, State: string(webhooks.OutcomeIgnored), ProcessedAt: &at, Unhandled: !o.mayHandle(eventType)}
}

// mayHandle reports whether the Applier has a handler for a type, or does not know its handlers.
func (o *Operator) mayHandle(eventType string) bool {
	applier, known := o.config.Applier.(typed)
	snapshotType := strings.TrimPrefix(eventType, "v1.")
	return !known || slices.ContainsFunc(applier.Types(), func(pattern string) bool { return eventtypes.PatternMatches(pattern, snapshotType) })
}

func backward(list []ReplayCandidate, each func(ReplayCandidate) error) error {
	for _, one := range slices.Backward(list) {
		if err := each(one); err != nil {
			return err
		}
	}
	return nil
}

// ReplayAll replays the events that a filter selects, the oldest first failure first, and calls each with each result. It continues
// after an event that fails again. It stops with ErrReceiver where the receiver is the reason; each has then been called with the event
// at which it stopped, and the error says how many are left.
func (o *Operator) ReplayAll(ctx context.Context, f ReplayFilter, each func(EventResult)) error {
	if o.config.Applier == nil {
		return ErrNoApplier
	}
	run := replayRun{Operator: o, each: each}
	err := o.ReplayCandidates(ctx, f, func(c ReplayCandidate) error {
		return run.next(ctx, c.EventID, func() EventResult { return o.replayCandidate(ctx, c) })
	})
	return run.end(err)
}

// ReplayFailed is ReplayAll for every failing event of an account (empty: of all).
func (o *Operator) ReplayFailed(ctx context.Context, account string, each func(EventResult)) error {
	return o.ReplayAll(ctx, ReplayFilter{Account: account}, each)
}

// ReplayEvents is Replay for several events, in their order. It continues and stops as ReplayAll does.
func (o *Operator) ReplayEvents(ctx context.Context, ids []string, account string, each func(EventResult)) error {
	if o.config.Applier == nil {
		return ErrNoApplier
	}
	run := replayRun{Operator: o, each: each}
	var err error
	for _, id := range ids {
		if err = run.next(ctx, id, func() EventResult { return o.Replay(ctx, id, account) }); err != nil {
			break
		}
	}
	return run.end(err)
}

// replayCandidate replays an event. An ignored one of a type that has no handler here is not fetched from Stripe.
func (o *Operator) replayCandidate(ctx context.Context, c ReplayCandidate) EventResult {
	if c.Unhandled {
		return EventResult{EventID: c.EventID, Err: unhandled(c.EventType)}
	}
	return o.replayBy(ctx, c.EventID, "", c.State == string(StateParked))
}

// replayRun replays events until the receiver is the reason why one fails, and counts what is left.
type replayRun struct {
	*Operator
	each    func(EventResult)
	stopper stopper
	stopped error
	left    int
}

// errCounted ends the count of what is left.
var errCounted = errors.New("counted")

// next replays an event. After the run has stopped, it counts the event.
func (run *replayRun) next(ctx context.Context, id string, replay func() EventResult) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if run.stopped == nil {
		return run.replay(ctx, id, replay)
	}
	if run.left > MaxFailureCount {
		return errCounted
	}
	run.left++
	return nil
}

func (run *replayRun) replay(ctx context.Context, id string, replay func() EventResult) error {
	applied := replay()
	if ctx.Err() != nil { // interrupted, not failed
		return fmt.Errorf("replay %s: %w", id, ctx.Err())
	}
	run.each(applied)
	if run.stopped = run.stopper.stops(applied.Err); run.stopped != nil {
		run.left = 1 // this one
	}
	return nil
}

func (run *replayRun) end(err error) error {
	if run.stopped != nil {
		return stoppedBy(run.stopped, min(run.left, MaxFailureCount), run.left > MaxFailureCount)
	}
	return err
}

// stoppedBy adds to the reason why a run stopped how many events are left, with the one at which it stopped; more: there are more.
func stoppedBy(reason error, left int, more bool) error {
	events := fmt.Sprintf("%d events are left", left)
	switch {
	case more:
		events = fmt.Sprintf("at least %d events are left", left)
	case left == 1:
		events = "1 event is left"
	}
	return fmt.Errorf("%w (stopped: %s)", reason, events)
}
