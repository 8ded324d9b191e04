package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrInvalidSignature is wrapped by what a delivery is refused with when its Stripe-Signature header
	// is missing, malformed, too old, or made with none of the secrets. Reply: 400.
	ErrInvalidSignature = errors.New("invalid signature")
	// ErrInvalidEvent is wrapped by what a body that is no Stripe event is refused with. A function may
	// wrap it to refuse an event that no retry can mend. Reply: 400, nothing kept.
	ErrInvalidEvent = errors.New("invalid event")
	// ErrUnavailable is wrapped by failures that are not the event's: no connection to be had, a
	// connection that died, a database that is read-only or full. Reply: 503, and Stripe retries.
	ErrUnavailable = errors.New("unavailable")
	// ErrNotMigrated is wrapped, together with ErrUnavailable, while the database lacks a migration.
	ErrNotMigrated = errors.New("the database is not migrated")
	// ErrReadOnly is wrapped, together with ErrUnavailable, by Ready while the database cannot be written to,
	// such as a standby. With several hosts in the pool's URL, target_session_attrs=read-write finds the primary.
	ErrReadOnly = errors.New("the database is read-only")
	// ErrPooler is wrapped, together with ErrUnavailable, where a pooler in transaction mode stands before
	// the database and the pool uses prepared statements.
	ErrPooler = errors.New("a pooler that shares connections is before PostgreSQL, and prepared statements fail there: " +
		"add default_query_exec_mode=exec to the database's URL")
	// ErrShutdown is wrapped, together with ErrUnavailable, after Shutdown.
	ErrShutdown = errors.New("the receiver is shutting down")
	// ErrTimeout is wrapped when an event was not done within Config.Timeout. Reply: 500.
	ErrTimeout = errors.New("out of time")
	// ErrTxControl is returned by Commit and Rollback on the transaction that a function is given, and
	// wrapped by the failure of its event. Reply: 500, nothing kept.
	ErrTxControl = errors.New("the transaction is the receiver's to commit or roll back: return nil or an error instead")

	errBodyTooLarge = errors.New("the body is too large")
	errMethod       = errors.New("only POST is allowed")
	errDuplicate    = errors.New("a concurrent copy of the event won")
)

// HandlerError says that a registered function failed. It unwraps to the function's error.
type HandlerError struct {
	EventType string // the event's type
	Err       error
}

func (e *HandlerError) Error() string { return fmt.Sprintf("handler of %s: %v", e.EventType, e.Err) }

// Unwrap returns the function's error.
func (e *HandlerError) Unwrap() error { return e.Err }

// PanicError is a panic in a registered function.
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

// PostgreSQL's codes that the receiver acts on: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	codeUniqueViolation      = "23505"
	codeUndefinedColumn      = "42703"
	codeUndefinedTable       = "42P01"
	codeReadOnlyTransaction  = "25006"
	codeNoSuchPrepared       = "26000"
	codeStalePlan            = "0A000" // cached plan must not change result type
	codePreparedTwice        = "42P05"
	codeIdleInTransaction    = "25P03"
	codeQueryCanceled        = "57014"
	codeSerializationFailure = "40001"
	codeDeadlock             = "40P01"
	codeLockNotAvailable     = "55P03"
)

// unavailableClasses are the first letters of codes that mean the server or the way to it, not the
// statement: connection exceptions, too few resources, operator intervention, system errors, and locks
// that were not to be had in time.
var unavailableClasses = []string{"08", "53", "57P", "58", codeReadOnlyTransaction, codeLockNotAvailable}

func pgCode(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

func isRetryable(err error) bool {
	code := pgCode(err)
	return code == codeSerializationFailure || code == codeDeadlock
}

// isLedgerViolation is true for a violation of the ledger's unique index and of no other.
func isLedgerViolation(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == codeUniqueViolation &&
		pgErr.TableName == "stripe_webhook_events" && pgErr.ConstraintName == "stripe_webhook_events_event_id_key"
}

// LacksMigration is true for PostgreSQL's error that a table or a column is not there: of a statement on stripeonce's
// tables, it says that the database lacks a migration, or that search_path does not lead to them.
func LacksMigration(err error) bool {
	code := pgCode(err)
	return code == codeUndefinedTable || code == codeUndefinedColumn
}

// classify names the kind of a failure where the driver's error does not: this is the one place that
// reads driver errors. ctx is the work's, closed says whether the connection is lost.
func classify(ctx context.Context, err error, closed bool) error {
	switch {
	case err == nil, errors.Is(err, ErrUnavailable), errors.Is(err, ErrInvalidEvent):
		return err
	case ctx.Err() != nil && errors.As(err, new(*HandlerError)):
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	case ctx.Err() != nil:
		// A statement of the receiver's own: PostgreSQL is slow, which is not the event's failure.
		return fmt.Errorf("%w: no time was left: %w", ErrUnavailable, err)
	case pgCode(err) == codeIdleInTransaction:
		// The server gave up waiting for a function that is slow elsewhere.
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	case pgCode(err) == codeNoSuchPrepared || pgCode(err) == codePreparedTwice:
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrPooler, err)
	case (pgCode(err) == codeQueryCanceled || pgCode(err) == codeStalePlan) && !errors.As(err, new(*HandlerError)):
		// A statement of the receiver's own: statement_timeout, or a table that was changed.
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case closed:
		return fmt.Errorf("%w: the connection to PostgreSQL was lost: %w", ErrUnavailable, err)
	}
	code := pgCode(err)
	for _, class := range unavailableClasses {
		if strings.HasPrefix(code, class) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return err
}

// reply maps a failure to the status and the text that the sender sees. What is not known is a 500
// without detail: the detail is for the log alone.
func reply(err error) (status int, text string) {
	switch {
	case errors.Is(err, errMethod):
		return http.StatusMethodNotAllowed, err.Error()
	case errors.Is(err, errBodyTooLarge):
		return http.StatusRequestEntityTooLarge, err.Error()
	case errors.Is(err, ErrInvalidSignature), errors.Is(err, ErrInvalidEvent):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, ErrNotMigrated):
		return http.StatusServiceUnavailable, ErrNotMigrated.Error()
	case errors.Is(err, ErrShutdown):
		return http.StatusServiceUnavailable, ErrShutdown.Error()
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable, "temporarily unavailable, try again"
	case errors.Is(err, ErrTimeout):
		return http.StatusInternalServerError, "processing the event took too long"
	default:
		return http.StatusInternalServerError, "processing the event failed"
	}
}
