package webhooks

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrInvalidSignature is wrapped by what a delivery is refused with when its Stripe-Signature header
	// is missing, malformed, too old, or made with none of the secrets. Reply: 400.
	ErrInvalidSignature = errors.New("invalid signature")
	// ErrInvalidEvent reports that a body is not a Stripe event: no id, no type, or text that the ledger
	// cannot hold. The response is 400. It says nothing of a genuine event that a handler cannot read: that is
	// a failure of the event, 500 with a record.
	ErrInvalidEvent = errors.New("invalid event")
	// ErrUnavailable reports an infrastructure failure (no connection, a lost connection, a read-only or full
	// database). The response is 503 and Stripe retries. An error of a handler is never one, whatever it wraps.
	ErrUnavailable = errors.New("unavailable")
	// ErrNotMigrated is wrapped, together with ErrUnavailable, while the database lacks a migration.
	ErrNotMigrated = errors.New("the database is not migrated")
	// ErrReadOnly is wrapped, together with ErrUnavailable, by Ready while the database cannot be written to,
	// such as a standby. With several hosts in the pool's URL, target_session_attrs=read-write finds the primary.
	ErrReadOnly = errors.New("the database is read-only")
	// ErrNotPermitted is wrapped, together with ErrUnavailable, while the pool's role lacks a privilege on a table that
	// the receiver writes. deploy/roles.sql has what serving needs.
	ErrNotPermitted = errors.New("the database role lacks a privilege on stripeonce's tables: grant what deploy/roles.sql grants")
	// ErrPooler is wrapped, together with ErrUnavailable, where a pooler in transaction mode stands before
	// the database and the pool uses prepared statements.
	ErrPooler = errors.New("a pooler that shares connections is before PostgreSQL, and prepared statements fail there: " +
		"add default_query_exec_mode=exec to the database's URL")
	// ErrRowSecurity is wrapped, together with ErrUnavailable, where row level security applies to the pool's role and no
	// policy lets it do what serving does. deploy/row_level_security.sql makes one.
	ErrRowSecurity = errors.New("row level security hides stripeonce's tables from the database role: give it a policy, as " +
		"deploy/row_level_security.sql does")
	// ErrUnsuitable is wrapped, together with ErrUnavailable, by Ready where the database or a setting of the session does not
	// suit: an encoding other than UTF-8, a DateStyle that pgx cannot read in the pool's query exec mode.
	ErrUnsuitable = errors.New("the database does not suit")
	// ErrNotReadBack is returned by a Trial, and wrapped together with ErrUnavailable by Ready.
	ErrNotReadBack = errors.New("what was written is not read back: a trigger or a rule on the table drops rows")
	// ErrShutdown is wrapped, together with ErrUnavailable, after Shutdown.
	ErrShutdown = errors.New("the receiver is shutting down")
	// ErrTimeout is wrapped when an event was not done within Config.Timeout. Reply: 500.
	ErrTimeout = errors.New("out of time")
	// ErrTxControl is returned by Commit and Rollback on the transaction that a function is given, and
	// wrapped by the failure of its event. Reply: 500, nothing kept.
	ErrTxControl = errors.New("the transaction is the receiver's to commit or roll back: return nil or an error instead")

	errBodyTooLarge = errors.New("the body is too large")
	errMethod       = errors.New("only POST is allowed")
	errLostRace     = errors.New("a concurrent duplicate of the event was recorded first")
	errSession      = errors.New("a handler changed the session (SET TRANSACTION READ ONLY, DEALLOCATE, a temporary table of a name " +
		"of the receiver's) so that the receiver's own statements fail; behind a pooler that shares connections, " +
		"add default_query_exec_mode=exec to the database's URL")
)

// HandlerError reports that a handler failed: one registered with On, or a projection or its hook. It unwraps to the
// handler's error. It is the event's failure, whatever it wraps: the response is 500, with a record.
type HandlerError struct {
	EventType string // the event's type
	Err       error
}

func (e *HandlerError) Error() string { return fmt.Sprintf("handler of %s: %v", e.EventType, e.Err) }

// Unwrap returns the handler's error.
func (e *HandlerError) Unwrap() error { return e.Err }

// PanicError is a panic in a handler.
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
	codeTransactionTimeout   = "25P04" // since PostgreSQL 17
	codeInvalidText          = "22P02"
	codeNotPermitted         = "42501"
	codeRaised               = "P0001"
	codeDiskFull             = "53100"
	codeUntranslatable       = "22P05"
	codeNotInRepertoire      = "22021"
	codeAdminShutdown        = "57P01"
	codeQueryCanceled        = "57014"
	codeSerializationFailure = "40001"
	codeDeadlock             = "40P01"
	codeLockNotAvailable     = "55P03"
)

func pgError(err error) *pgconn.PgError {
	var pgErr *pgconn.PgError
	errors.As(err, &pgErr)
	return pgErr
}

func pgCode(err error) string {
	if pgErr := pgError(err); pgErr != nil {
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
// tables, it says that the database lacks a migration, or that search_path does not lead to them. A statement inside
// a function, such as a trigger of the host's, is on other tables.
func LacksMigration(err error) bool {
	pgErr := pgError(err)
	return pgErr != nil && pgErr.InternalQuery == "" && (pgErr.Code == codeUndefinedTable || pgErr.Code == codeUndefinedColumn)
}

// reply maps an error to the status and the text that the sender sees. accepted says that the delivery was a genuine
// event: from there on nothing is the sender's mistake, and the detail is for the log alone.
func reply(err error, accepted bool) (status int, text string) {
	if !accepted {
		switch {
		case errors.Is(err, errMethod):
			return http.StatusMethodNotAllowed, err.Error()
		case errors.Is(err, errBodyTooLarge):
			return http.StatusRequestEntityTooLarge, err.Error()
		case errors.Is(err, ErrInvalidSignature), errors.Is(err, ErrInvalidEvent):
			return http.StatusBadRequest, err.Error()
		}
	}
	switch {
	case !isInfrastructure(err) && errors.Is(err, ErrTimeout):
		return http.StatusInternalServerError, "processing the event took too long"
	case !isInfrastructure(err):
		return http.StatusInternalServerError, "processing the event failed"
	case errors.Is(err, ErrNotMigrated):
		return http.StatusServiceUnavailable, ErrNotMigrated.Error()
	case errors.Is(err, ErrShutdown):
		return http.StatusServiceUnavailable, ErrShutdown.Error()
	default:
		return http.StatusServiceUnavailable, "temporarily unavailable, try again"
	}
}
