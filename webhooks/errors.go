package webhooks

import (
	"errors"

	"github.com/pook/stripeonce/internal/fault"
)

// The errors that a caller may look for with errors.Is. Those from ErrNotMigrated to ErrShutdown are always wrapped
// together with ErrUnavailable.
var (
	// ErrInvalidSignature is wrapped when the Stripe-Signature header is missing, malformed, too old, or made with none of
	// the secrets. The response is 400.
	ErrInvalidSignature = fault.ErrInvalidSignature
	// ErrInvalidEvent reports that a body is not a Stripe event: no id, no type, or text that the ledger cannot hold. The
	// response is 400. A genuine event that a handler cannot read is a failure of the event instead: 500 with a record.
	ErrInvalidEvent = fault.ErrInvalidEvent
	// ErrUnavailable reports an infrastructure failure (no connection, a lost connection, a read-only or full
	// database). The response is 503 and Stripe retries. An error of a handler is never one, whatever it wraps.
	ErrUnavailable = fault.ErrUnavailable
	// ErrNotMigrated reports that the database lacks a migration.
	ErrNotMigrated = fault.ErrNotMigrated
	// ErrReadOnly reports that the database cannot be written to, such as a standby. With several hosts in the pool's
	// URL, target_session_attrs=read-write finds the primary.
	ErrReadOnly = fault.ErrReadOnly
	// ErrNotPermitted reports that the pool's role lacks a privilege on a table that the receiver writes.
	// deploy/roles.sql has what serving needs.
	ErrNotPermitted = fault.ErrNotPermitted
	// ErrPooler reports a pooler in transaction mode before the database while the pool uses prepared statements.
	ErrPooler = fault.ErrPooler
	// ErrRowSecurity reports that row level security applies to the pool's role and no policy lets it do what serving
	// does. deploy/row_level_security.sql makes a policy.
	ErrRowSecurity = fault.ErrRowSecurity
	// ErrUnsuitable reports that the database or a setting of the session does not suit: an encoding other than UTF-8,
	// a DateStyle that pgx cannot read in the pool's query exec mode.
	ErrUnsuitable = fault.ErrUnsuitable
	// ErrNotReadBack reports that Ready wrote a row and did not find it: a trigger or a rule drops rows.
	ErrNotReadBack = fault.ErrNotReadBack
	// ErrShutdown reports that Shutdown was called.
	ErrShutdown = fault.ErrShutdown
	// ErrTimeout is wrapped when handlers used up Config.Timeout. The response is 500. If PostgreSQL took the time, the
	// error wraps ErrUnavailable instead, and the response is 503.
	ErrTimeout = fault.ErrTimeout
	// ErrTxControl is returned by Commit and Rollback on a handler's transaction, and wrapped by the failure of its
	// event. The response is 500, and nothing is kept.
	ErrTxControl = fault.ErrTxControl

	errBodyTooLarge = errors.New("the body is too large")
	errMethod       = errors.New("only POST is allowed")
)

// HandlerError reports that a handler failed: one registered with [On], a projection, or a projection's OnChange. It is the event's
// failure, whatever it wraps: the response is 500, with a record. It is a struct with the fields
//
//	EventType string // the event's type
//	Err       error  // the handler's error, which Unwrap returns
type HandlerError = fault.HandlerError

// PanicError reports a panic in a handler. It is a struct with the fields
//
//	Value any    // the value of the panic, which Unwrap returns if it is an error
//	Stack []byte // the stack trace, as of debug.Stack
type PanicError = fault.PanicError
