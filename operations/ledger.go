package operations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/webhooks"
)

// DefaultLimit is the default number of rows of a listing.
const DefaultLimit = 50

// Event is one row of the ledger, stripe_webhook_events. The JSON names are the columns'.
type Event struct {
	EventID        string           `json:"event_id"`
	EventType      string           `json:"event_type"`
	Outcome        webhooks.Outcome `json:"outcome"`
	ProcessedAt    time.Time        `json:"processed_at"`
	EventCreatedAt *time.Time       `json:"event_created_at"`
	Livemode       bool             `json:"livemode"`
	AccountID      *string          `json:"account_id"`
	APIVersion     *string          `json:"api_version"`
	ObjectID       *string          `json:"object_id"`
}

// Failure is one row of stripe_webhook_failures. The JSON names are the columns'.
type Failure struct {
	EventID       string          `json:"event_id"`
	EventType     string          `json:"event_type"`
	Attempts      int32           `json:"attempts"`
	FirstFailedAt time.Time       `json:"first_failed_at"`
	LastFailedAt  time.Time       `json:"last_failed_at"`
	LastError     string          `json:"last_error"`
	History       []Attempt       `json:"history"` // the last 20 attempts, the newest last
	Payload       json.RawMessage `json:"payload"` // nil if it is not kept
	State         FailureState    `json:"state"`
	Reason        *string         `json:"reason"` // of the dismissal
	AccountID     *string         `json:"account_id"`
}

// FailureState is the state of a failure's record.
type FailureState string

// The states of a failure's record.
const (
	StateFailing   FailureState = "failing"   // retried by Stripe or an operator
	StateParked    FailureState = "parked"    // a handler returned webhooks.Park: the event waits for Replay
	StateDismissed FailureState = "dismissed" // an operator decided that the event need not be applied
)

// Attempt is one failed attempt.
type Attempt struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"` // its first 200 characters
}

// EventFilter selects the events to list. The zero value selects the newest 50.
type EventFilter struct {
	// Type is an event type, or a pattern that ends in ".*". Empty: every type. There is no index on it, so a rare type is
	// searched for all the way back to Since.
	Type     string
	Outcome  webhooks.Outcome // empty: every outcome
	ObjectID string           // the id of a Stripe object; empty: any
	// Account is the id of an account. Empty: any, and events without an account. There is no index on it either.
	Account string
	Since   time.Time // the earliest time at which an event took effect; zero: any
	Until   time.Time // events took effect before this time; zero: any
	// Before is an event's id: only events that took effect before it are listed. Pass the last id of a listing to get
	// the next one. Empty: start with the newest.
	Before string
	Limit  int // 0: DefaultLimit
}

// Events lists the ledger, newest first. It reads only the rows that it returns and those that the filter skips, however
// long the ledger is.
func (o *Operator) Events(ctx context.Context, f EventFilter) ([]Event, error) {
	params := db.StripeWebhookEventListParams{
		Since: f.Since, Outcome: string(f.Outcome), AccountID: f.Account, MaxRows: limit(f.Limit),
	}
	if prefix, wild := strings.CutSuffix(f.Type, "*"); wild {
		params.TypePrefix = prefix
	} else {
		params.EventType = f.Type
	}
	if !f.Until.IsZero() {
		params.Before = &f.Until
	}
	if f.Before != "" {
		row, err := o.event(ctx, f.Before)
		if err != nil {
			return nil, err
		}
		params.Before, params.BeforeEventID = &row.ProcessedAt, row.EventID
	}
	list := func() ([]db.StripeWebhookEvent, error) {
		if f.ObjectID == "" {
			return o.queries.StripeWebhookEventList(ctx, o.pool, params)
		}
		return o.queries.StripeWebhookEventListByObject(ctx, o.pool, db.StripeWebhookEventListByObjectParams{
			ObjectID: f.ObjectID, Before: params.Before, BeforeEventID: params.BeforeEventID, Since: params.Since,
			EventType: params.EventType, TypePrefix: params.TypePrefix, Outcome: params.Outcome, AccountID: params.AccountID, MaxRows: params.MaxRows,
		})
	}
	rows, err := list()
	if err == nil && len(rows) == 0 && f == (EventFilter{Limit: f.Limit}) {
		err = o.checkSeesRows(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("list the ledger: %w", err)
	}
	events := make([]Event, len(rows))
	for i := range rows {
		events[i] = eventOf(&rows[i])
	}
	return events, nil
}

// checkSeesRows returns an error if row level security hides the tables from the role. They would look empty otherwise.
func (o *Operator) checkSeesRows(ctx context.Context) error {
	missing, err := o.queries.ServerMissingPrivileges(ctx, o.pool,
		[]string{"stripe_webhook_events", "stripe_webhook_failures"}, []string{"SELECT", "SELECT"})
	for _, m := range missing {
		if m.ByPolicy {
			return fmt.Errorf("%w: no policy allows %s on %s", webhooks.ErrRowSecurity, m.Privilege, m.TableName)
		}
	}
	return err
}

func limit(n int) int32 {
	if n <= 0 {
		return DefaultLimit
	}
	return int32(min(n, 1<<30))
}

func eventOf(row *db.StripeWebhookEvent) Event {
	return Event{
		EventID: row.EventID, EventType: row.EventType, Outcome: webhooks.Outcome(row.Outcome),
		ProcessedAt: row.ProcessedAt.UTC(), EventCreatedAt: utc(row.EventCreatedAt), Livemode: row.Livemode,
		AccountID: row.AccountID, APIVersion: row.ApiVersion, ObjectID: row.ObjectID,
	}
}

func utc(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	inUTC := at.UTC()
	return &inUTC
}

func (o *Operator) event(ctx context.Context, id string) (*Event, error) {
	row, err := o.queries.StripeWebhookEventGet(ctx, o.pool, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("%s is not in the ledger: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("get event %s: %w", id, err)
	}
	event := eventOf(&row)
	return &event, nil
}

func (o *Operator) failure(ctx context.Context, id string) (*Failure, error) {
	row, err := o.queries.StripeWebhookFailureGet(ctx, o.pool, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("%s has not failed: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("get the failure of %s: %w", id, err)
	}
	return failureOf(&row)
}

func failureOf(row *db.StripeWebhookFailure) (*Failure, error) {
	f := &Failure{
		EventID: row.EventID, EventType: row.EventType, Attempts: row.Attempts, FirstFailedAt: row.FirstFailedAt.UTC(),
		LastFailedAt: row.LastFailedAt.UTC(), LastError: row.LastError, Payload: row.Payload,
		State: FailureState(row.State), Reason: row.Reason, AccountID: row.AccountID,
	}
	if err := json.Unmarshal(row.History, &f.History); err != nil {
		return nil, fmt.Errorf("the history of %s: %w", row.EventID, err)
	}
	return f, nil
}

// EventDetail is one event's ledger row and failure record.
type EventDetail struct {
	Event   *Event   // nil: not in the ledger
	Failure *Failure // nil: it never failed
}

// CreatedAt returns when Stripe created the event, or nil if that is not known.
func (d *EventDetail) CreatedAt() *time.Time {
	if d.Event != nil {
		return d.Event.EventCreatedAt
	}
	if ev, err := webhooks.ParseEvent(d.Failure.Payload); err == nil && !ev.Created.IsZero() {
		return &ev.Created
	}
	return nil
}

// ofTwoAccounts reports whether the event and the failure are of different accounts: one of them was made up.
func (d *EventDetail) ofTwoAccounts() bool {
	return d.Event != nil && d.Failure != nil && d.Event.AccountID != nil && d.Failure.AccountID != nil && *d.Event.AccountID != *d.Failure.AccountID
}

// Failing reports whether the event's last attempt failed and it has not been applied since.
func (d *EventDetail) Failing() bool {
	return d.Failure != nil && (d.Event == nil || d.Event.Outcome == webhooks.OutcomeIgnored || d.ofTwoAccounts())
}

// Parked reports whether the event is parked: see webhooks.Park.
func (d *EventDetail) Parked() bool {
	return d.Event != nil && d.Event.Outcome == webhooks.OutcomeParked
}

// EventDetail returns an event's ledger row and failure record. The error wraps ErrNotFound if it has neither.
func (o *Operator) EventDetail(ctx context.Context, id string) (*EventDetail, error) {
	event, err := o.event(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	failure, err := o.failure(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if event == nil && failure == nil {
		return nil, fmt.Errorf("%s is neither in the ledger nor among the failures: %w", id, ErrNotFound)
	}
	return &EventDetail{event, failure}, nil
}

// FailureFilter selects the failures to list. The zero value selects the newest 50.
type FailureFilter struct {
	// Before is an event's id: only events whose first failure was before its are listed. Empty: start with the newest.
	Before string
	Limit  int          // 0: DefaultLimit
	State  FailureState // empty: StateFailing and StateParked
	// Account is the id of an account. Empty: any, and events without an account.
	Account string
	// MaxLookedAt bounds how many failure records are read, newest first. Records of events that were applied since stay
	// until they are pruned, and are read and skipped. 0: no bound.
	MaxLookedAt int
}

const (
	// MaxCounted is the largest count of CountFailing.
	MaxCounted = 1000
	// MaxLookedAt is how many failure records CountFailing reads, newest first.
	MaxLookedAt = 100_000
)

// CountFailing counts the failing events, up to MaxCounted, among the newest MaxLookedAt failure records.
func (o *Operator) CountFailing(ctx context.Context) (int64, error) {
	return o.queries.LedgerFailing(ctx, o.pool, MaxLookedAt, MaxCounted)
}

// Failures lists the parked events, and the events whose last attempt failed and that have not been applied since. The
// newest failure is first.
func (o *Operator) Failures(ctx context.Context, f FailureFilter) ([]Failure, error) {
	params := db.StripeWebhookFailureListParams{MaxRows: limit(f.Limit), State: string(f.State), AccountID: f.Account}
	if f.Before != "" {
		row, err := o.failure(ctx, f.Before)
		if err != nil {
			return nil, err
		}
		params.Before, params.BeforeEventID = &row.FirstFailedAt, row.EventID
	}
	if f.MaxLookedAt > 0 {
		most := int64(f.MaxLookedAt)
		params.MaxLookedAt = &most
	}
	rows, err := o.queries.StripeWebhookFailureList(ctx, o.pool, params)
	if err == nil && len(rows) == 0 && f == (FailureFilter{Limit: f.Limit}) {
		err = o.checkSeesRows(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("list the failures: %w", err)
	}
	failures := make([]Failure, len(rows))
	for i := range rows {
		one, err := failureOf(&rows[i])
		if err != nil {
			return nil, err
		}
		failures[i] = *one
	}
	return failures, nil
}
