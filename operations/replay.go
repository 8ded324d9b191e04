package operations

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/eventtypes"
	"github.com/pook/stripeonce/internal/stripeapi"
	"github.com/pook/stripeonce/webhooks"
)

// thinVersion is the version that /v2 is asked in. That of stripe-go v79 has no events about v1 resources.
const thinVersion = "2026-09-30.endive"

// Applied is what came of one event that was applied again.
type Applied struct {
	EventID string           `json:"event_id"`
	Outcome webhooks.Outcome `json:"outcome,omitempty"`
	Err     error            `json:"-"`
}

// Replay applies an event again: from the payload of its failure, else as Stripe has it. One that has taken
// effect is a duplicate. account is the connected account that Stripe is asked for it in; empty is the one
// that the ledger names, else the platform's own. An error is in the result as well.
func (o *Operator) Replay(ctx context.Context, id, account string) Applied {
	result, err := o.replay(ctx, id, account)
	if err != nil {
		return Applied{EventID: id, Err: err}
	}
	return Applied{EventID: result.EventID, Outcome: result.Outcome}
}

func (o *Operator) replay(ctx context.Context, id, account string) (webhooks.Result, error) {
	if o.config.Applier == nil {
		return webhooks.Result{}, ErrNoApplier
	}
	story, err := o.EventDetail(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		story = &EventDetail{}
	case err != nil:
		return webhooks.Result{}, err
	}
	if story.Event != nil && story.Event.Outcome != webhooks.OutcomeIgnored && !story.Parked() {
		return webhooks.Result{EventID: id, Outcome: webhooks.OutcomeDuplicate}, nil
	}
	ev, err := o.again(ctx, id, account, story)
	if err != nil {
		return webhooks.Result{}, err
	}
	result, err := o.replayEvent(ctx, ev, story)
	if err != nil {
		return result, err
	}
	return result, o.tookEffect(ctx, ev, result, story.Failing())
}

// tookEffect returns an error if an event that was applied again has no effect even so: the ledger still says that it is
// ignored, which a receiver without a handler for it answers as a duplicate, or that it fails, or is parked.
func (o *Operator) tookEffect(ctx context.Context, ev *webhooks.Event, result webhooks.Result, wasFailing bool) error {
	if result.Outcome == webhooks.OutcomeParked {
		return o.parked(ctx, ev, result.EventID)
	}
	if wasFailing {
		story, err := o.EventDetail(ctx, ev.ID)
		if err == nil && story.Failing() {
			err = fmt.Errorf("%w: it still fails", o.notHandled(ev))
		}
		return err
	}
	switch result.Outcome {
	case webhooks.OutcomeIgnored:
		return o.notHandled(ev)
	case webhooks.OutcomeDuplicate:
		row, err := o.event(ctx, result.EventID)
		switch {
		case err == nil && row.Outcome == webhooks.OutcomeIgnored:
			return o.notHandled(ev)
		case err == nil && row.Outcome == webhooks.OutcomeParked:
			return o.parked(ctx, ev, result.EventID)
		}
		if errors.Is(err, ErrNotFound) { // the receiver has another ledger
			return nil
		}
		return err
	default:
		return nil
	}
}

// parked says why an event waits for a person, a thin one under the id that it is recorded under.
func (o *Operator) parked(ctx context.Context, ev *webhooks.Event, id string) error {
	if id != ev.ID {
		return fmt.Errorf("it is parked under the id of its snapshot event: replay %s", id)
	}
	failure, err := o.failure(ctx, id)
	if err != nil {
		return fmt.Errorf("it is parked: %w", err)
	}
	return fmt.Errorf("it is parked: %s", failure.LastError)
}

// notHandled says that nothing handles an event where it was applied, and why.
func (o *Operator) notHandled(ev *webhooks.Event) error {
	switch applier := o.config.Applier.(type) {
	case *Remote:
		return fmt.Errorf("nothing handles it: no handler is registered for %s in the receiver at %s, or it ignores events of this mode", ev.Type, applier.url)
	case handling:
		fits := func(pattern string) bool { return eventtypes.PatternMatches(pattern, ev.Type) }
		if slices.ContainsFunc(applier.Types(), fits) {
			return fmt.Errorf("nothing handles it: a handler is registered for %s in this process, but it ignores events of this mode, "+
				"or has no API key for a thin event", ev.Type)
		}
	}
	return fmt.Errorf("nothing handles it: no handler is registered for %s in this process", ev.Type)
}

// replayEvent applies an event on behalf of a person.
func (o *Operator) replayEvent(ctx context.Context, ev *webhooks.Event, story *EventDetail) (webhooks.Result, error) {
	if !story.Parked() {
		return o.apply(ctx, ev)
	}
	applier, ok := o.config.Applier.(replaying)
	if !ok {
		return webhooks.Result{}, fmt.Errorf("the event is parked, and the applier (%T) has no method Replay", o.config.Applier)
	}
	return retryUnavailable(ctx, ev, applier.Replay)
}

// again gets an event that is to be applied again.
func (o *Operator) again(ctx context.Context, id, account string, story *EventDetail) (*webhooks.Event, error) {
	if story.Failure != nil && story.Failure.Payload != nil {
		return webhooks.ParseEvent(story.Failure.Payload)
	}
	if account == "" && story.Event != nil && story.Event.AccountID != nil {
		account = *story.Event.AccountID
	}
	where := "no payload of it is stored"
	if story.Event == nil && story.Failure == nil {
		where = "it is neither in the ledger nor among the failures"
	}
	if o.config.APIKey == "" {
		return nil, fmt.Errorf("%s, and %w to fetch it from Stripe with", where, ErrNoAPIKey)
	}
	request := stripeapi.Request{Path: "/v1/events/" + url.PathEscape(id), Account: account}
	answer, err := o.api.Do(ctx, request)
	if stripeapi.IsMissing(err) {
		request.Path, request.Version = "/v2/core/events/"+url.PathEscape(id), thinVersion
		if thin, err := o.api.Do(ctx, request); err == nil {
			return parseOf(thin.Body, account)
		}
	}
	if stripeapi.IsMissing(err) {
		return nil, fmt.Errorf("%s, and %w: Stripe has events for 30 days, and those of a connected account under that account alone (--account)",
			where, stripeapi.Explain(err))
	}
	if err != nil {
		return nil, fmt.Errorf("%s, and %w", where, stripeapi.Explain(err))
	}
	return parseOf(answer.Body, account)
}

// ReplayFailed applies every event of Failures again, the oldest failure first, and hands each result to
// each. It goes on after one that fails again.
func (o *Operator) ReplayFailed(ctx context.Context, each func(Applied)) error {
	if o.config.Applier == nil {
		return ErrNoApplier
	}
	after := db.StripeWebhookFailureListOldestParams{MaxRows: 1000}
	for {
		rows, err := o.queries.StripeWebhookFailureListOldest(ctx, o.pool, after)
		if err != nil {
			return fmt.Errorf("list the failures: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		for _, row := range rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			each(o.Replay(ctx, row.EventID, ""))
			after.After, after.AfterEventID = row.FirstFailedAt, row.EventID
		}
	}
}
