package fault

import (
	"errors"
	"fmt"
)

// Circumstances are what Classify needs to know beside the error.
type Circumstances struct {
	HandlerRan       bool // a handler of the host's has run in the transaction
	HandlersTookMost bool // the handlers took more than half of Config.Timeout
	TimeUp           bool // the delivery's context has ended
	ConnClosed       bool // the connection is lost
}

// rule pairs a condition with the classification of an error that meets it.
type rule struct {
	name     string
	applies  func(s *state) bool
	classify func(err error) error
}

func unchanged(err error) error { return err }

// wrapping returns a classification that wraps the error in sentinel.
func wrapping(sentinel error) func(error) error {
	return func(err error) error { return fmt.Errorf("%w: %w", sentinel, err) }
}

// infrastructure is wrapping with ErrUnavailable as well.
func infrastructure(sentinel error) func(error) error { return wrapping(Unavailable(sentinel)) }

// rules are tried in order; the first that applies decides. Whose code was running comes first: an error while a handler
// runs is the event's failure, whatever the SQLSTATE and the state of the connection.
var rules = []rule{
	{"handler, out of time", func(s *state) bool { return s.handler && s.TimeUp }, wrapping(ErrTimeout)},
	{"session ended while a handler kept it idle", func(s *state) bool {
		return (s.handler || s.HandlerRan) && s.is(IdleInTransaction, TransactionTimeout)
	}, wrapping(ErrTimeout)},
	{"handler", func(s *state) bool { return s.handler }, unchanged},
	{"classified before", func(s *state) bool { return errors.Is(s.err, ErrUnavailable) }, unchanged},
	{"data that the tables refuse", func(s *state) bool { return s.class("22", "23") || s.is(RaiseException) }, unchanged},
	{"trigger of the host's", func(s *state) bool { return s.inTrigger() }, unchanged},
	{"session changed by a handler", func(s *state) bool {
		return s.HandlerRan && (s.is(ReadOnlyTransaction, NoSuchPrepared) || LacksMigration(s.err))
	}, wrapping(ErrSession)},
	{"not migrated", func(s *state) bool { return LacksMigration(s.err) }, infrastructure(ErrNotMigrated)},
	{"not permitted", func(s *state) bool { return s.is(InsufficientPrivilege) }, infrastructure(ErrNotPermitted)},
	{"pooler", func(s *state) bool { return s.is(NoSuchPrepared, DuplicatePrepared) }, infrastructure(ErrPooler)},
	{"handlers left no time", func(s *state) bool { return s.TimeUp && s.HandlersTookMost }, wrapping(ErrTimeout)},
	{"timed out", func(s *state) bool { return s.TimeUp }, infrastructure(errNoTimeLeft)},
	{"connection lost", func(s *state) bool { return s.ConnClosed }, infrastructure(errConnectionLost)},
	{"not PostgreSQL's", func(s *state) bool { return s.code == "" }, unchanged},
	{"any other", func(*state) bool { return true }, wrapping(ErrUnavailable)},
}

// Classify returns err as the event's failure or as an infrastructure failure. The latter wraps ErrUnavailable, and the
// sentinel of its cause. Nil stays nil.
func Classify(err error, c Circumstances) error {
	if err == nil {
		return nil
	}
	s := newState(err, c)
	for _, rule := range rules {
		if rule.applies(s) {
			return rule.classify(err)
		}
	}
	return err
}
