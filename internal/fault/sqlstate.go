package fault

import (
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The SQLSTATEs that stripeonce acts on: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	UniqueViolation        = "23505"
	UndefinedColumn        = "42703"
	UndefinedTable         = "42P01"
	ReadOnlyTransaction    = "25006"
	NoSuchPrepared         = "26000"
	StalePlan              = "0A000" // cached plan must not change result type
	DuplicatePrepared      = "42P05"
	IdleInTransaction      = "25P03"
	TransactionTimeout     = "25P04" // since PostgreSQL 17
	InvalidText            = "22P02"
	InsufficientPrivilege  = "42501"
	RaiseException         = "P0001"
	DiskFull               = "53100"
	UntranslatableChar     = "22P05"
	CharacterNotInEncoding = "22021"
	AdminShutdown          = "57P01"
	QueryCanceled          = "57014"
	SerializationFailure   = "40001"
	DeadlockDetected       = "40P01"
	LockNotAvailable       = "55P03"
)

func pgError(err error) *pgconn.PgError {
	var pgErr *pgconn.PgError
	errors.As(err, &pgErr)
	return pgErr
}

// Code returns the SQLSTATE of PostgreSQL's error, "" if err wraps none.
func Code(err error) string {
	if pgErr := pgError(err); pgErr != nil {
		return pgErr.Code
	}
	return ""
}

// IsRetryable reports whether PostgreSQL wants the transaction to be tried again.
func IsRetryable(err error) bool {
	code := Code(err)
	return code == SerializationFailure || code == DeadlockDetected
}

// UniqueViolationOf returns PostgreSQL's error if err is the violation of a unique index, else nil.
func UniqueViolationOf(err error) *pgconn.PgError {
	if pgErr := pgError(err); pgErr != nil && pgErr.Code == UniqueViolation {
		return pgErr
	}
	return nil
}

// InTrigger reports whether an error arose inside a function in PL/pgSQL, which is a trigger of the host's: the receiver's tables have
// none.
func InTrigger(err *pgconn.PgError) bool { return strings.Contains(err.Where, "PL/pgSQL") }

// LacksMigration reports whether PostgreSQL did not find a table or a column. For a statement on stripeonce's tables it
// means that the database lacks a migration, or that search_path does not lead to the tables. A statement inside a
// function, such as a trigger of the host's, is on other tables.
func LacksMigration(err error) bool {
	pgErr := pgError(err)
	return pgErr != nil && pgErr.InternalQuery == "" && (pgErr.Code == UndefinedTable || pgErr.Code == UndefinedColumn)
}

// IsUnreadable reports whether pgx could not decode PostgreSQL's answer.
func IsUnreadable(err error) bool { return errors.As(err, new(pgx.ScanArgError)) }

// IsRefusedByHost reports whether a constraint, a trigger or a policy of the host's refuses a row. Of the data errors
// (class 22), those about encodings are the database's.
func IsRefusedByHost(err error) bool {
	s := newState(err, Circumstances{})
	return s.class("23", "38", "P0") || s.class("22") && !s.is(UntranslatableChar, CharacterNotInEncoding) || s.inTrigger() ||
		s.is(InsufficientPrivilege) && pgError(err).Routine == "ExecWithCheckOptions"
}

// IsPassing reports whether the cause of PostgreSQL's error is likely to pass by itself: a connection, a serialization
// failure, a lock, an operator's intervention.
func IsPassing(err error) bool { return newState(err, Circumstances{}).class("08", "40", "55", "57") }

// SpoilsConnection reports whether a connection with this error is unfit for the next event: its server has become
// read-only, it keeps statements that were prepared before the tables changed, or its session was changed.
func SpoilsConnection(err error) bool {
	code := Code(err)
	if code == StalePlan || code == NoSuchPrepared {
		return true
	}
	return !IsHandler(err) &&
		(code == ReadOnlyTransaction || code == InsufficientPrivilege || LacksMigration(err) || errors.Is(err, ErrReadOnly))
}

// state is an error with everything that a rule may look at.
type state struct {
	Circumstances
	err     error
	handler bool   // it arose while a handler ran
	code    string // PostgreSQL's SQLSTATE; "" if the error is not PostgreSQL's
	raised  bool   // by a RAISE of PL/pgSQL
	trigger bool   // inside a function in PL/pgSQL, which is a trigger of the host's: the receiver's tables have none
}

func newState(err error, c Circumstances) *state {
	s := &state{Circumstances: c, err: err, handler: IsHandler(err)}
	if pgErr := pgError(err); pgErr != nil {
		s.code, s.raised, s.trigger = pgErr.Code, pgErr.Routine == "exec_stmt_raise", InTrigger(pgErr)
	}
	return s
}

func (s *state) is(codes ...string) bool { return slices.Contains(codes, s.code) }

// class reports whether the SQLSTATE is of one of the classes, which are its first two characters.
func (s *state) class(classes ...string) bool {
	return len(s.code) == 5 && slices.Contains(classes, s.code[:2])
}

// inTrigger reports an error in a trigger of the host's, unless it is infrastructure's: a full disk, a lock.
func (s *state) inTrigger() bool {
	return s.trigger && !s.class("08", "25", "40", "53", "55", "57", "58", "XX") || s.raised && !s.class("40")
}
