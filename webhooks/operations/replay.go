package operations

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/pook/stripeonce/db"
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
	story, err := o.Story(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		story = &Story{}
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
	if err == nil && (story.Failing() || story.Parked()) {
		err = o.applied(ctx, id)
	}
	return result, err
}

var errNotHandled = errors.New("nothing handles it where it was applied, or it is of the mode that is ignored there: it still fails")

// applied makes sure that an event that was failing is in effect now, and was not merely ignored.
func (o *Operator) applied(ctx context.Context, id string) error {
	story, err := o.Story(ctx, id)
	switch {
	case err == nil && story.Failing():
		return errNotHandled
	case err == nil && story.Parked():
		return fmt.Errorf("it is parked: %s", story.Failure.LastError)
	}
	return err
}

// replayEvent applies an event on behalf of a person.
func (o *Operator) replayEvent(ctx context.Context, ev *webhooks.Event, story *Story) (webhooks.Result, error) {
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
func (o *Operator) again(ctx context.Context, id, account string, story *Story) (*webhooks.Event, error) {
	if story.Failure != nil && story.Failure.Payload != nil {
		return webhooks.ParseEvent(story.Failure.Payload)
	}
	if account == "" && story.Event != nil && story.Event.AccountID != nil {
		account = *story.Event.AccountID
	}
	if o.config.APIKey == "" {
		return nil, fmt.Errorf("no payload of it is stored, and %w", ErrNoAPIKey)
	}
	request := stripeapi.Request{Path: "/v1/events/" + url.PathEscape(id), Account: account}
	answer, err := o.api.Do(ctx, request)
	if stripeapi.IsMissing(err) {
		request.Path, request.Version = "/v2/core/events/"+url.PathEscape(id), thinVersion
		if thin, err := o.api.Do(ctx, request); err == nil {
			return parseOf(thin.Body, account)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("no payload of it is stored, and %w", stripeapi.Explain(err))
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
