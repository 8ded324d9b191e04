// Package fault defines the errors of a delivery, and classifies each as the event's failure or an infrastructure failure.
//
// An error is either the event's failure or infrastructure's. The event's failure is answered 500 and leaves a record in
// stripe_webhook_failures. An infrastructure failure wraps [ErrUnavailable], is answered 503 and leaves no record: it says
// nothing about the event. [Classify] is the only place that reads PostgreSQL's errors to tell the two apart.
//
// # Where an error comes from
//
// The first question is whose code was running. An error that arises while a handler runs is a [HandlerError] and the
// event's failure, whatever its SQLSTATE and the state of the connection. An error in the receiver's own statements is
// infrastructure's, unless PostgreSQL refuses the data.
//
// The public names of these errors, with their documentation, are in package webhooks.
package fault

import (
	"errors"
	"fmt"
)

// The errors that package webhooks exports. Those from ErrNotMigrated to ErrShutdown are wrapped together with
// ErrUnavailable.
var (
	ErrInvalidSignature = errors.New("invalid signature")
	ErrInvalidEvent     = errors.New("invalid event")
	ErrUnavailable      = errors.New("unavailable")
	ErrNotMigrated      = errors.New("the database is not migrated")
	ErrReadOnly         = errors.New("the database is read-only")
	ErrNotPermitted     = errors.New("the database role lacks a privilege on stripeonce's tables: grant what deploy/roles.sql grants")
	ErrPooler           = errors.New("prepared statements fail behind a connection pooler in transaction mode: " +
		"add default_query_exec_mode=exec to the database URL")
	ErrRowSecurity = errors.New("row level security hides stripeonce's tables from the database role: add a policy for the role, as " +
		"deploy/row_level_security.sql does")
	ErrUnsuitable  = errors.New("the database is not suitable")
	ErrNotReadBack = errors.New("a written row could not be read back: a trigger or rule on the table drops rows")
	ErrShutdown    = errors.New("the receiver is shutting down")
	ErrTimeout     = errors.New("timed out")
	ErrTxControl   = errors.New("handlers must not commit or roll back the receiver's transaction: return nil or an error instead")
)

// ErrSession reports that a handler changed the session such that the receiver's own statements fail.
var ErrSession = errors.New("a handler changed the session (SET TRANSACTION READ ONLY, DEALLOCATE, a temporary table with the " +
	"name of a receiver's table) so that the receiver's own statements fail; behind a connection pooler in transaction mode, " +
	"add default_query_exec_mode=exec to the database URL")

var (
	errNoTimeLeft     = errors.New("no time was left for the receiver's own statements")
	errConnectionLost = errors.New("the connection to PostgreSQL was lost")
)

// Unavailable wraps ErrUnavailable and cause.
func Unavailable(cause error) error { return fmt.Errorf("%w: %w", ErrUnavailable, cause) }

// HandlerError reports that a handler failed: one registered with On, or a projection or its hook. It unwraps to the
// handler's error.
type HandlerError struct {
	EventType string // the event's type
	Err       error
}

func (e *HandlerError) Error() string { return fmt.Sprintf("handler of %s: %v", e.EventType, e.Err) }

// Unwrap returns the handler's error.
func (e *HandlerError) Unwrap() error { return e.Err }

// IsHandler reports whether err arose while a handler ran.
func IsHandler(err error) bool { return errors.As(err, new(*HandlerError)) }

// InHandler makes err a HandlerError, unless it is one already.
func InHandler(eventType string, err error) error {
	if IsHandler(err) {
		return err
	}
	return &HandlerError{EventType: eventType, Err: err}
}

// PanicError is a panic in a handler, or in code that a handler or a pool's hook left behind.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// IsInfrastructure reports whether err is not the event's failure. A handler may return an error that wraps
// ErrUnavailable; it remains the event's failure.
func IsInfrastructure(err error) bool { return errors.Is(err, ErrUnavailable) && !IsHandler(err) }

// IsDoubtful reports whether err is an infrastructure failure which says that the tables are missing or may not be
// written. Either that is so, or the session of one connection was changed.
func IsDoubtful(err error) bool {
	return IsInfrastructure(err) && (errors.Is(err, ErrNotMigrated) || errors.Is(err, ErrNotPermitted))
}
