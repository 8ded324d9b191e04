package pgtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// WaitLimit is how long a test waits for a condition. It allows for a busy machine.
	WaitLimit = time.Minute
	// pollInterval is the pause between two checks. It leaves the processor to the process that the test waits for.
	pollInterval = 2 * time.Millisecond
)

// Await waits until holds returns true. After WaitLimit it fails the test with the name of the condition.
func Await(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	if !await(holds) {
		tb.Fatalf("timed out after %v: %s", WaitLimit, what)
	}
}

// AwaitEqual waits until get returns want. After WaitLimit it fails the test with the last value.
func AwaitEqual[T comparable](tb testing.TB, what string, want T, get func() T) {
	tb.Helper()
	var last T
	if !await(func() bool { last = get(); return last == want }) {
		tb.Fatalf("timed out after %v: %s is %v; it is %v", WaitLimit, what, want, last)
	}
}

// AwaitSQL waits until a query returns true. After WaitLimit it fails the test with the server's sessions.
func AwaitSQL(tb testing.TB, pool *pgxpool.Pool, what, query string, args ...any) {
	tb.Helper()
	if !await(func() bool { return Scan[bool](tb, pool, query, args...) }) {
		tb.Fatalf("timed out after %v: %s; PostgreSQL's sessions are\n%s", WaitLimit, what, sessions(tb, pool))
	}
}

// Receive returns the next value of a channel, or the zero value if it is closed. After WaitLimit it fails the test.
func Receive[T any](tb testing.TB, what string, from <-chan T) T {
	tb.Helper()
	timeout := time.NewTimer(WaitLimit)
	defer timeout.Stop()
	var value T
	select {
	case value = <-from:
	case <-timeout.C:
		tb.Fatalf("timed out after %v: %s", WaitLimit, what)
	}
	return value
}

// Send sends a value on a channel. After WaitLimit it fails the test.
func Send[T any](tb testing.TB, what string, to chan<- T, value T) {
	tb.Helper()
	timeout := time.NewTimer(WaitLimit)
	defer timeout.Stop()
	select {
	case to <- value:
	case <-timeout.C:
		tb.Fatalf("timed out after %v: %s", WaitLimit, what)
	}
}

// await polls until holds returns true or WaitLimit has passed. It polls at least once after that.
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

// sessions lists the sessions of clients, with their state, wait event and query.
func sessions(tb testing.TB, pool *pgxpool.Pool) string {
	tb.Helper()
	const query = `SELECT coalesce(string_agg(concat_ws(' | ', pid, datname, state, wait_event_type, wait_event, left(query, 200)), E'\n' ORDER BY pid), 'none')
		FROM pg_stat_activity WHERE backend_type = 'client backend'`
	return Scan[string](tb, pool, query)
}

// Close closes a pool, which waits until no connection is in use. After WaitLimit the test fails.
func Close(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	Receive(tb, fmt.Sprintf("a pool closes, whose connections in use were %d", pool.Stat().AcquiredConns()), closed)
}
