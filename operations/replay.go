package operations

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/lastattempt"
	"github.com/pook/stripeonce/internal/stripeapi"
	"github.com/pook/stripeonce/webhooks"
)

// EventResult is the result of applying one event again. Err is nil if the event was applied or is a duplicate.
type EventResult struct {
	EventID string           `json:"event_id"`
	Outcome webhooks.Outcome `json:"outcome,omitempty"`
	Err     error            `json:"-"`
}

// Replay applies an event again, from the payload of its failure record or else fetched from Stripe. An event that has
// taken effect is a duplicate. The event is fetched as the connected account; if account is empty, as the account in the
// ledger or else the platform's own. An error is returned in the result.
func (o *Operator) Replay(ctx context.Context, id, account string) EventResult {
	return o.replayBy(ctx, id, account, true)
}

// replayBy is Replay. Unless a person has named the event, one that is parked or was dismissed meanwhile is left: it is a duplicate.
func (o *Operator) replayBy(ctx context.Context, id, account string, person bool) EventResult {
	result, err := o.replay(ctx, id, account, person)
	if err != nil {
		return EventResult{EventID: id, Err: err}
	}
	return EventResult{EventID: result.EventID, Outcome: result.Outcome}
}

func (o *Operator) replay(ctx context.Context, id, account string, person bool) (webhooks.Result, error) {
	if o.config.Applier == nil {
		return webhooks.Result{}, ErrNoApplier
	}
	detail, err := o.EventDetail(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		detail = &EventDetail{}
	case err != nil:
		return webhooks.Result{}, err
	}
	if detail.Event != nil && detail.Event.Outcome != webhooks.OutcomeIgnored && !detail.Parked() && !detail.ofTwoAccounts() {
		return webhooks.Result{EventID: id, Outcome: webhooks.OutcomeDuplicate}, nil
	}
	if !person && detail.Parked() {
		return webhooks.Result{EventID: id, Outcome: webhooks.OutcomeDuplicate}, nil
	}
	ev, err := o.fetchEvent(ctx, id, account, detail)
	if err != nil {
		return webhooks.Result{}, err
	}
	result, err := o.replayEvent(ctx, ev, detail)
	if err == nil && detail.Dismissed() && detail.Parked() && result.EventID != id {
		err = o.settleTwin(ctx, detail, result.Outcome)
	}
	if err != nil {
		return result, err
	}
	return result, o.tookEffect(ctx, ev, result, detail.Failing())
}

// settleTwin gives the row of a thin event that was dismissed under its own id, and took effect under its snapshot event's, the same
// outcome.
func (o *Operator) settleTwin(ctx context.Context, dismissed *EventDetail, outcome webhooks.Outcome) error {
	if outcome != webhooks.OutcomeProcessed && outcome != webhooks.OutcomeStale {
		return nil
	}
	_, err := o.queries.StripeWebhookEventUpdateProvisional(ctx, o.pool, db.StripeWebhookEventUpdateProvisionalParams{
		EventID: dismissed.Event.EventID, EventType: dismissed.Event.EventType, Outcome: string(outcome), ReplaysParked: true, Receiver: dismissed.Failure.Receiver,
	})
	if err != nil {
		return fmt.Errorf("update the row of the thin event: %w", err)
	}
	return nil
}

// tookEffect returns an error if an event was applied again without effect: according to the ledger it is still ignored,
// failing or parked. A receiver without a handler answers a repeated ignored event as a duplicate.
func (o *Operator) tookEffect(ctx context.Context, ev *webhooks.Event, result webhooks.Result, wasFailing bool) error {
	if result.Outcome == webhooks.OutcomeParked {
		return o.parked(ctx, ev, result.EventID)
	}
	if wasFailing {
		detail, err := o.EventDetail(ctx, ev.ID)
		if err == nil && detail.Failing() {
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
		case err == nil && row.Outcome == webhooks.OutcomeParked && result.EventID == ev.ID: // no handler ran, or it would have parked again
			return fmt.Errorf("%w: it stays parked", o.notHandled(ev))
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

// parked returns an error with the reason why an event is parked. A thin event may be recorded under another id.
func (o *Operator) parked(ctx context.Context, ev *webhooks.Event, id string) error {
	if id != ev.ID {
		return fmt.Errorf("parked under the id of its snapshot event: replay %s", id)
	}
	failure, err := o.failure(ctx, id)
	if err != nil {
		return fmt.Errorf("parked: %w", err)
	}
	return fmt.Errorf("parked: %s", failure.LastError)
}

// notHandled returns an error with the reason why the applier does not handle an event.
func (o *Operator) notHandled(ev *webhooks.Event) error {
	switch applier := o.config.Applier.(type) {
	case *Remote:
		return fmt.Errorf("no handler ran: none is registered for %s in the receiver at %s, or it ignores events of this mode, "+
			"or has no API key of this mode for a thin event", ev.Type, applier.url)
	case typed:
		if o.mayHandle(ev.Type) {
			return fmt.Errorf("no handler ran: one is registered for %s in this process, but it ignores events of this mode, "+
				"has no API key of this mode for a thin event, or mirrors no object such as the event's", ev.Type)
		}
	}
	return unhandled(ev.Type)
}

func unhandled(eventType string) error {
	return fmt.Errorf("no handler ran: none is registered for %s in this process", eventType)
}

// replayEvent applies an event for an operator, even if it is parked.
func (o *Operator) replayEvent(ctx context.Context, ev *webhooks.Event, detail *EventDetail) (webhooks.Result, error) {
	ctx = withLastAttempt(ctx, detail.Failure)
	if !detail.Parked() {
		return o.apply(ctx, ev)
	}
	applier, ok := o.config.Applier.(replayer)
	if !ok {
		return webhooks.Result{}, fmt.Errorf("the event is parked, but the applier (%T) has no method Replay", o.config.Applier)
	}
	return o.retryUnavailable(ctx, ev, applier.Replay)
}

// withLastAttempt returns a context that carries the last attempt of a failure's record, for the trace of the next attempt.
func withLastAttempt(ctx context.Context, f *Failure) context.Context {
	if f == nil {
		return ctx
	}
	last := lastattempt.Attempt{Number: int(f.Attempts)}
	if n := len(f.History); n > 0 {
		last.TraceID, last.SpanID = f.History[n-1].TraceID, f.History[n-1].SpanID
	}
	return lastattempt.With(ctx, last)
}

// fetchEvent returns an event from the payload of its failure record, from that which the receiver has kept, or else from Stripe.
func (o *Operator) fetchEvent(ctx context.Context, id, account string, detail *EventDetail) (*webhooks.Event, error) {
	if detail.Failure != nil && detail.Failure.AccountID != nil {
		account = *detail.Failure.AccountID
	}
	if detail.Failure != nil && detail.Failure.Payload != nil {
		return parseRecorded(detail.Failure.Payload, account)
	}
	if account == "" && detail.Event != nil && detail.Event.AccountID != nil {
		account = *detail.Event.AccountID
	}
	switch payload, err := o.queries.StripeWebhookPayloadGet(ctx, o.pool, id); {
	case err == nil:
		return parseRecorded(payload, account)
	case !errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("look up the payload of %s: %w", id, err)
	}
	where := "no payload is stored"
	if detail.Event == nil && detail.Failure == nil {
		where = "it is neither in the ledger nor among the failures"
	}
	if o.config.APIKey == "" {
		return nil, fmt.Errorf("%s, and it cannot be fetched from Stripe: %w", where, ErrNoAPIKey)
	}
	request := stripeapi.Request{Path: "/v1/events/" + url.PathEscape(id), Account: account}
	response, err := o.api.Do(ctx, request)
	if stripeapi.IsMissing(err) {
		request.Path = "/v2/core/events/" + url.PathEscape(id)
		if thin, err := o.api.Do(ctx, request); err == nil {
			return parseOf(thin.Body, account)
		}
	}
	if stripeapi.IsMissing(err) {
		return nil, fmt.Errorf("%s, and %w: Stripe keeps events for 30 days, and lists a connected account's events only under that account (--account)",
			where, stripeapi.Explain(err))
	}
	if err != nil {
		return nil, fmt.Errorf("%s, and %w", where, stripeapi.Explain(err))
	}
	return parseOf(response.Body, account)
}
