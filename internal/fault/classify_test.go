package fault

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// want is what an error is: the status of the reply, and what it wraps (nil: nothing in particular).
type want struct {
	status int
	is     error
}

// Each rule has a case that it alone decides: without the rule the classification is another, or the case is not reached.
func TestClassify(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "on purpose"} }
	handler := func(err error) error { return &HandlerError{"test.event", err} }
	raised := &pgconn.PgError{Code: "XX123", Routine: "exec_stmt_raise"}
	within := func(code string) error {
		return &pgconn.PgError{Code: code, Where: "PL/pgSQL-Funktion f() Zeile 1 bei RAISE"}
	}
	in := func(query string) error { return &pgconn.PgError{Code: UndefinedTable, InternalQuery: query} }
	timeUp, closed, ran := Circumstances{TimeUp: true}, Circumstances{ConnClosed: true}, Circumstances{HandlerRan: true}
	failure, lost := errors.New("no"), errors.New("unexpected EOF")
	cases := []struct {
		rule string
		err  error
		Circumstances
		want
	}{
		{"handler, out of time", handler(failure), timeUp, want{500, ErrTimeout}},
		{"handler, out of time", handler(pg(QueryCanceled)), timeUp, want{500, ErrTimeout}},
		{"session ended while a handler kept it idle", pg(IdleInTransaction), ran, want{500, ErrTimeout}},
		{"session ended while a handler kept it idle", pg(TransactionTimeout), ran, want{500, ErrTimeout}},
		{"session ended while a handler kept it idle", handler(pg(TransactionTimeout)), closed, want{500, ErrTimeout}},
		{"handler", handler(failure), Circumstances{}, want{500, nil}},
		{"handler", handler(fmt.Errorf("%w: mine", ErrUnavailable)), closed, want{500, nil}},
		{"handler", handler(pg("57P01")), closed, want{500, nil}},
		{"handler", handler(pg(UndefinedTable)), Circumstances{}, want{500, nil}},
		{"handler", handler(pg(LockNotAvailable)), Circumstances{}, want{500, nil}},
		{"classified before", fmt.Errorf("%w: %w", ErrUnavailable, pg("22P02")), Circumstances{}, want{503, ErrUnavailable}},
		{"data that the tables refuse", pg("22P02"), Circumstances{}, want{500, nil}},
		{"data that the tables refuse", pg("23514"), timeUp, want{500, nil}},
		{"data that the tables refuse", pg(RaiseException), Circumstances{}, want{500, nil}},
		{"trigger of the host's", raised, Circumstances{}, want{500, nil}},
		{"trigger of the host's", within(InsufficientPrivilege), Circumstances{}, want{500, nil}},
		{"trigger of the host's", within(UndefinedTable), timeUp, want{500, nil}},
		{"session changed by a handler", pg(ReadOnlyTransaction), ran, want{500, ErrSession}},
		{"session changed by a handler", pg(NoSuchPrepared), ran, want{500, ErrSession}},
		{"session changed by a handler", pg(UndefinedColumn), ran, want{500, ErrSession}},
		{"not migrated", pg(UndefinedTable), Circumstances{}, want{503, ErrNotMigrated}},
		{"not migrated", pg(UndefinedColumn), timeUp, want{503, ErrNotMigrated}},
		{"not permitted", pg(InsufficientPrivilege), ran, want{503, ErrNotPermitted}},
		{"pooler", pg(NoSuchPrepared), Circumstances{}, want{503, ErrPooler}},
		{"pooler", pg(DuplicatePrepared), Circumstances{}, want{503, ErrPooler}},
		{"handlers left no time", pg(QueryCanceled), Circumstances{TimeUp: true, HandlerRan: true, HandlersTookMost: true}, want{500, ErrTimeout}},
		{"any other", within(LockNotAvailable), Circumstances{}, want{503, ErrUnavailable}},
		{"timed out", pg(QueryCanceled), timeUp, want{503, errNoTimeLeft}},
		{"connection lost", lost, closed, want{503, errConnectionLost}},
		{"not PostgreSQL's", failure, Circumstances{}, want{500, nil}},
		{"any other", pg("53100"), Circumstances{}, want{503, ErrUnavailable}},
		{"any other", pg("40001"), Circumstances{}, want{503, ErrUnavailable}},
		{"any other", pg("55P03"), Circumstances{}, want{503, ErrUnavailable}},
		{"any other", pg("25006"), Circumstances{}, want{503, ErrUnavailable}},
		{"any other", pg("25P03"), Circumstances{}, want{503, ErrUnavailable}},
		{"any other", in("INSERT INTO audit VALUES (1)"), Circumstances{}, want{503, ErrUnavailable}},
		{"any other", &pgconn.PgError{Code: "40001", Routine: "exec_stmt_raise"}, Circumstances{}, want{503, ErrUnavailable}},
	}
	seen := map[string]bool{}
	for _, c := range cases {
		seen[c.rule] = true
		got := Classify(c.err, c.Circumstances)
		status := http.StatusInternalServerError
		if IsInfrastructure(got) {
			status = http.StatusServiceUnavailable
		}
		if status != c.status || c.is != nil && !errors.Is(got, c.is) || !errors.Is(got, c.err) && !errors.As(got, new(*pgconn.PgError)) {
			t.Errorf("%s, %+v, by the rule %q: %v is %d", c.err, c.Circumstances, c.rule, got, status)
		}
		if rule := decides(c.err, c.Circumstances); rule != c.rule {
			t.Errorf("%v, %+v is decided by the rule %q, want %q", c.err, c.Circumstances, rule, c.rule)
		}
	}
	for _, rule := range rules {
		if !seen[rule.name] {
			t.Errorf("the rule %q has no case", rule.name)
		}
	}
	if Classify(nil, closed) != nil {
		t.Error("no error is one")
	}
}

// decides is the name of the rule that decides.
func decides(err error, c Circumstances) string {
	s := newState(err, c)
	for _, rule := range rules {
		if rule.applies(s) {
			return rule.name
		}
	}
	return ""
}
