package webhooks

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// what an error is, as the reply and the record show.
type verdictOfATest struct {
	status int
	is     error // what it wraps; nil: nothing in particular
}

// Each rule has a case that it alone decides: without the rule the verdict is another, or the case is not reached.
func TestClassify(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "on purpose"} }
	handler := func(err error) error { return &HandlerError{"test.event", err} }
	raised := &pgconn.PgError{Code: "XX123", Routine: "exec_stmt_raise"}
	within := func(code string) error {
		return &pgconn.PgError{Code: code, Where: "PL/pgSQL-Funktion f() Zeile 1 bei RAISE"}
	}
	in := func(query string) error { return &pgconn.PgError{Code: codeUndefinedTable, InternalQuery: query} }
	timeUp, closed, ran := circumstances{timeUp: true}, circumstances{closed: true}, circumstances{handlerRan: true}
	failure, lost := errors.New("no"), errors.New("unexpected EOF")
	cases := []struct {
		rule string
		err  error
		circumstances
		verdictOfATest
	}{
		{"handler, out of time", handler(failure), timeUp, verdictOfATest{500, ErrTimeout}},
		{"handler, out of time", handler(pg(codeQueryCanceled)), timeUp, verdictOfATest{500, ErrTimeout}},
		{"session ended while a handler kept it idle", pg(codeIdleInTransaction), ran, verdictOfATest{500, ErrTimeout}},
		{"session ended while a handler kept it idle", pg(codeTransactionTimeout), ran, verdictOfATest{500, ErrTimeout}},
		{"session ended while a handler kept it idle", handler(pg(codeTransactionTimeout)), closed, verdictOfATest{500, ErrTimeout}},
		{"handler", handler(failure), circumstances{}, verdictOfATest{500, nil}},
		{"handler", handler(fmt.Errorf("%w: mine", ErrUnavailable)), closed, verdictOfATest{500, nil}},
		{"handler", handler(pg("57P01")), closed, verdictOfATest{500, nil}},
		{"handler", handler(pg(codeUndefinedTable)), circumstances{}, verdictOfATest{500, nil}},
		{"handler", handler(pg(codeLockNotAvailable)), circumstances{}, verdictOfATest{500, nil}},
		{"classified before", fmt.Errorf("%w: %w", ErrUnavailable, pg("22P02")), circumstances{}, verdictOfATest{503, ErrUnavailable}},
		{"data that the tables refuse", pg("22P02"), circumstances{}, verdictOfATest{500, nil}},
		{"data that the tables refuse", pg("23514"), timeUp, verdictOfATest{500, nil}},
		{"data that the tables refuse", pg(codeRaised), circumstances{}, verdictOfATest{500, nil}},
		{"trigger of the host's", raised, circumstances{}, verdictOfATest{500, nil}},
		{"trigger of the host's", within(codeNotPermitted), circumstances{}, verdictOfATest{500, nil}},
		{"trigger of the host's", within(codeUndefinedTable), timeUp, verdictOfATest{500, nil}},
		{"session changed by a handler", pg(codeReadOnlyTransaction), ran, verdictOfATest{500, errSession}},
		{"session changed by a handler", pg(codeNoSuchPrepared), ran, verdictOfATest{500, errSession}},
		{"session changed by a handler", pg(codeUndefinedColumn), ran, verdictOfATest{500, errSession}},
		{"not migrated", pg(codeUndefinedTable), circumstances{}, verdictOfATest{503, ErrNotMigrated}},
		{"not migrated", pg(codeUndefinedColumn), timeUp, verdictOfATest{503, ErrNotMigrated}},
		{"not permitted", pg(codeNotPermitted), ran, verdictOfATest{503, ErrNotPermitted}},
		{"pooler", pg(codeNoSuchPrepared), circumstances{}, verdictOfATest{503, ErrPooler}},
		{"pooler", pg(codePreparedTwice), circumstances{}, verdictOfATest{503, ErrPooler}},
		{"handlers left no time", pg(codeQueryCanceled), circumstances{timeUp: true, handlerRan: true, tookMost: true}, verdictOfATest{500, ErrTimeout}},
		{"any other", within(codeLockNotAvailable), circumstances{}, verdictOfATest{503, ErrUnavailable}},
		{"out of time", pg(codeQueryCanceled), timeUp, verdictOfATest{503, errNoTimeLeft}},
		{"connection lost", lost, closed, verdictOfATest{503, errConnectionLost}},
		{"not PostgreSQL's", failure, circumstances{}, verdictOfATest{500, nil}},
		{"any other", pg("53100"), circumstances{}, verdictOfATest{503, ErrUnavailable}},
		{"any other", pg("40001"), circumstances{}, verdictOfATest{503, ErrUnavailable}},
		{"any other", pg("55P03"), circumstances{}, verdictOfATest{503, ErrUnavailable}},
		{"any other", pg("25006"), circumstances{}, verdictOfATest{503, ErrUnavailable}},
		{"any other", pg("25P03"), circumstances{}, verdictOfATest{503, ErrUnavailable}},
		{"any other", in("INSERT INTO audit VALUES (1)"), circumstances{}, verdictOfATest{503, ErrUnavailable}},
		{"any other", &pgconn.PgError{Code: "40001", Routine: "exec_stmt_raise"}, circumstances{}, verdictOfATest{503, ErrUnavailable}},
	}
	seen := map[string]bool{}
	for _, c := range cases {
		seen[c.rule] = true
		got := classify(c.err, c.circumstances)
		status, _ := reply(got, true)
		if status != c.status || c.is != nil && !errors.Is(got, c.is) || !errors.Is(got, c.err) && !errors.As(got, new(*pgconn.PgError)) {
			t.Errorf("%s, %+v, by the rule %q: %v is %d", c.err, c.circumstances, c.rule, got, status)
		}
		if rule := decides(c.err, c.circumstances); rule != c.rule {
			t.Errorf("%v, %+v is decided by the rule %q, want %q", c.err, c.circumstances, rule, c.rule)
		}
		if recorded := !isInfrastructure(got); recorded != (status == http.StatusInternalServerError) {
			t.Errorf("%v is %d, recorded %v", got, status, recorded)
		}
	}
	for _, rule := range rules {
		if !seen[rule.name] {
			t.Errorf("the rule %q has no case", rule.name)
		}
	}
	if classify(nil, closed) != nil {
		t.Error("no error is one")
	}
}

// decides is the name of the rule that decides.
func decides(err error, c circumstances) string {
	f := newFault(err, c)
	for _, rule := range rules {
		if rule.fits(f) {
			return rule.name
		}
	}
	return ""
}

// What is wrong with a request is the sender's mistake only until the event is accepted.
func TestReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err               error
		refused, accepted int
	}{
		{errMethod, 405, 500}, {errBodyTooLarge, 413, 500}, {ErrInvalidSignature, 400, 500}, {ErrInvalidEvent, 400, 500},
		{fmt.Errorf("%w: %w", ErrUnavailable, ErrInvalidEvent), 400, 503}, {ErrTimeout, 500, 500}, {errors.New("no"), 500, 500},
		{fmt.Errorf("%w: %w", ErrUnavailable, ErrNotMigrated), 503, 503}, {fmt.Errorf("%w: %w", ErrUnavailable, ErrShutdown), 503, 503},
		{&HandlerError{"test.event", ErrUnavailable}, 500, 500}, {&copyError{&HandlerError{"test.event", ErrInvalidSignature}}, 400, 500},
	} {
		refused, _ := reply(c.err, false)
		accepted, _ := reply(c.err, true)
		if refused != c.refused || accepted != c.accepted {
			t.Errorf("%v is %d before the event is accepted and %d after, want %d and %d", c.err, refused, accepted, c.refused, c.accepted)
		}
	}
}
