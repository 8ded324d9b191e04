package webhooks

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// circumstances are what an error's classification needs beside the error.
type circumstances struct {
	handlerRan bool // a handler of the host's has run in the transaction
	tookMost   bool // and handlers took more than half of Config.Timeout
	timeUp     bool // the delivery's context has ended
	closed     bool // the connection is lost
}

// fault is an error with all that a rule may ask of it.
type fault struct {
	circumstances
	err     error
	handler bool   // it arose while a handler ran
	code    string // PostgreSQL's SQLSTATE; "" if the error is not PostgreSQL's
	raised  bool   // by a RAISE of PL/pgSQL
	trigger bool   // inside a function in PL/pgSQL, which is a trigger of the host's: the receiver's tables have none
}

func (f *fault) is(codes ...string) bool { return slices.Contains(codes, f.code) }

// class is true if the SQLSTATE is of one of the classes, which are its first two characters.
func (f *fault) class(classes ...string) bool {
	return len(f.code) == 5 && slices.Contains(classes, f.code[:2])
}

// ofTrigger is true for an error in a trigger of the host's, unless it is infrastructure's: a full disk, a lock.
func (f *fault) ofTrigger() bool {
	return f.trigger && !f.class("08", "25", "40", "53", "55", "57", "58", "XX") || f.raised && !f.class("40")
}

// rule says what an error is: the event's failure (500, with a record) or infrastructure (503, which wraps
// ErrUnavailable).
type rule struct {
	name string
	fits func(f *fault) bool
	is   func(err error) error
}

func asItIs(err error) error { return err }

// wrapping returns the classification that puts what an error is before it.
func wrapping(what error) func(error) error {
	return func(err error) error { return fmt.Errorf("%w: %w", what, err) }
}

// infrastructure is wrapping for an error that wraps ErrUnavailable as well.
func infrastructure(what error) func(error) error {
	return wrapping(fmt.Errorf("%w: %w", ErrUnavailable, what))
}

var (
	errNoTimeLeft     = errors.New("no time was left for the receiver's own statements")
	errConnectionLost = errors.New("the connection to PostgreSQL was lost")
)

// rules are tried in order, and the first that fits decides. Who was running comes first: what goes wrong while a
// handler runs is the event's failure, whatever the SQLSTATE and the state of the connection.
// Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
var rules = []rule{
	{"handler, out of time", func(f *fault) bool { return f.handler && f.timeUp }, wrapping(ErrTimeout)},
	{"session ended while a handler kept it idle", func(f *fault) bool {
		return (f.handler || f.handlerRan) && f.is(codeIdleInTransaction, codeTransactionTimeout)
	}, wrapping(ErrTimeout)},
	{"handler", func(f *fault) bool { return f.handler }, asItIs},
	{"classified before", func(f *fault) bool { return errors.Is(f.err, ErrUnavailable) }, asItIs},
	{"data that the tables refuse", func(f *fault) bool { return f.class("22", "23") || f.is(codeRaised) }, asItIs},
	{"trigger of the host's", func(f *fault) bool {
		return f.ofTrigger()
	}, asItIs},
	{"session changed by a handler", func(f *fault) bool {
		return f.handlerRan && (f.is(codeReadOnlyTransaction, codeNoSuchPrepared) || LacksMigration(f.err))
	}, wrapping(errSession)},
	{"not migrated", func(f *fault) bool { return LacksMigration(f.err) }, infrastructure(ErrNotMigrated)},
	{"not permitted", func(f *fault) bool { return f.is(codeNotPermitted) }, infrastructure(ErrNotPermitted)},
	{"pooler", func(f *fault) bool { return f.is(codeNoSuchPrepared, codePreparedTwice) }, infrastructure(ErrPooler)},
	{"handlers left no time", func(f *fault) bool { return f.timeUp && f.tookMost }, wrapping(ErrTimeout)},
	{"out of time", func(f *fault) bool { return f.timeUp }, infrastructure(errNoTimeLeft)},
	{"connection lost", func(f *fault) bool { return f.closed }, infrastructure(errConnectionLost)},
	{"not PostgreSQL's", func(f *fault) bool { return f.code == "" }, asItIs},
	{"any other", func(*fault) bool { return true }, wrapping(ErrUnavailable)},
}

// classify says whether an error is the event's failure or infrastructure's. It is the one place that reads the
// driver's errors for this.
func classify(err error, c circumstances) error {
	if err == nil {
		return nil
	}
	f := newFault(err, c)
	for _, rule := range rules {
		if rule.fits(f) {
			return rule.is(err)
		}
	}
	return err
}

func newFault(err error, c circumstances) *fault {
	f := &fault{circumstances: c, err: err, handler: errors.As(err, new(*HandlerError))}
	if pgErr := pgError(err); pgErr != nil {
		f.code, f.raised, f.trigger = pgErr.Code, pgErr.Routine == "exec_stmt_raise", strings.Contains(pgErr.Where, "PL/pgSQL")
	}
	return f
}

// isInfrastructure is true for an error that is not the event's failure. A handler may return one that wraps
// ErrUnavailable, which does not make it so.
func isInfrastructure(err error) bool {
	return errors.Is(err, ErrUnavailable) && !errors.As(err, new(*HandlerError))
}
