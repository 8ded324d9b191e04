package pgtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// WaitLimit is how long a test waits for a condition, whatever else the machine has to do.
	WaitLimit = time.Minute
	// pollInterval is the pause between two looks. It leaves the processor to the process that the test waits for.
	pollInterval = 2 * time.Millisecond
)

// Await waits until holds returns true. After WaitLimit it fails the test with the name of the condition.
func Await(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	if !await(holds) {
		tb.Fatalf("waited %v in vain for this: %s", WaitLimit, what)
	}
}

// AwaitEqual waits until look returns want. After WaitLimit it fails the test with the last value.
func AwaitEqual[T comparable](tb testing.TB, what string, want T, look func() T) {
	tb.Helper()
	var last T
	if !await(func() bool { last = look(); return last == want }) {
		tb.Fatalf("waited %v in vain for this: %s is %v; it is %v", WaitLimit, what, want, last)
	}
}

// AwaitSQL waits until a query returns true. After WaitLimit it fails the test with the server's sessions.
func AwaitSQL(tb testing.TB, pool *pgxpool.Pool, what, query string, args ...any) {
	tb.Helper()
	if !await(func() bool { return Scan[bool](tb, pool, query, args...) }) {
		tb.Fatalf("waited %v in vain for this: %s; PostgreSQL's sessions are\n%s", WaitLimit, what, sessions(tb, pool))
	}
}

// Receive returns the next value of a channel, or the zero value of a closed one. After WaitLimit it fails the test.
func Receive[T any](tb testing.TB, what string, from <-chan T) T {
	tb.Helper()
	timeout := time.NewTimer(WaitLimit)
	defer timeout.Stop()
	var value T
	select {
	case value = <-from:
	case <-timeout.C:
		tb.Fatalf("waited %v in vain for this: %s", WaitLimit, what)
	}
	return value
}

// Send gives a value to the receiver of a channel. After WaitLimit it fails the test.
func Send[T any](tb testing.TB, what string, to chan<- T, value T) {
	tb.Helper()
	timeout := time.NewTimer(WaitLimit)
	defer timeout.Stop()
	select {
	case to <- value:
	case <-timeout.C:
		tb.Fatalf("waited %v in vain for this: %s", WaitLimit, what)
	}
}

// await looks until holds returns true or WaitLimit has passed. It looks at least once more after that.
func await(holds func() bool) bool {
	for deadline := time.Now().Add(WaitLimit); ; time.Sleep(pollInterval) {
		late := time.Now().After(deadline)
		if holds() {
			return true
		}
		if late {
			return false
		}
	}
}

// sessions lists the sessions of clients: what each does or waits for.
func sessions(tb testing.TB, pool *pgxpool.Pool) string {
	tb.Helper()
	const query = `SELECT coalesce(string_agg(concat_ws(' | ', pid, datname, state, wait_event_type, wait_event, left(query, 200)), E'\n' ORDER BY pid), 'none')
		FROM pg_stat_activity WHERE backend_type = 'client backend'`
	return Scan[string](tb, pool, query)
}

// Close closes a pool, which waits until no connection is in use. After WaitLimit it fails the test.
func Close(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	Receive(tb, fmt.Sprintf("a pool closes, whose connections in use were %d", pool.Stat().AcquiredConns()), closed)
}
