package operations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// Receiver is webhooks.Config.Name of the receiver that recorded the event last.
	Receiver string `json:"receiver"`
	// ReprocessedAt is when an operator last ran handlers again for the event (Reprocess), ReprocessCount how often, and ReprocessReason
	// why.
	ReprocessedAt   *time.Time `json:"reprocessed_at"`
	ReprocessCount  int        `json:"reprocess_count"`
	ReprocessReason *string    `json:"reprocess_reason"`
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
	// Receiver is webhooks.Config.Name of the receiver in which the event failed last.
	Receiver string `json:"receiver"`
	// NextRetryAt is when RetryFailed tries the event next; nil: it need not. Retries is how often it has.
	NextRetryAt *time.Time `json:"next_retry_at"`
	Retries     int        `json:"retries"`
	// TraceID is the trace of the last failed attempt; nil: it was not traced, or the trace was not exported.
	TraceID *string `json:"trace_id"`
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
	// TraceID and SpanID are of the attempt's span; empty: it was not traced, or the trace was not exported.
	TraceID string `json:"trace_id,omitempty"`
	SpanID  string `json:"span_id,omitempty"`
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
		AccountID: row.AccountID, APIVersion: row.ApiVersion, ObjectID: row.ObjectID, Receiver: row.Receiver,
		ReprocessedAt: utc(row.ReprocessedAt), ReprocessCount: int(row.ReprocessCount), ReprocessReason: row.ReprocessReason,
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
		Receiver: row.Receiver, NextRetryAt: utc(row.NextRetryAt), Retries: int(row.Retries), TraceID: row.TraceID,
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
	return d.Event != nil && d.Failure != nil && ofAnother(d.Event.AccountID, d.Failure.AccountID)
}

// Failing reports whether the event's last attempt failed, and it has not been applied since, nor dismissed.
func (d *EventDetail) Failing() bool {
	return d.Failure != nil && d.Failure.State != StateDismissed && (d.Event == nil || d.Event.Outcome == webhooks.OutcomeIgnored || d.ofTwoAccounts())
}

// Dismissed reports whether an operator decided that the event need not be applied (Dismiss), and it has not been applied since.
func (d *EventDetail) Dismissed() bool {
	return d.Failure != nil && d.Failure.State == StateDismissed &&
		(d.Event == nil || d.Event.Outcome == webhooks.OutcomeIgnored || d.Parked() || d.ofTwoAccounts())
}

// Parked reports whether the event is parked: see webhooks.Park. A dismissed event is parked, too.
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
