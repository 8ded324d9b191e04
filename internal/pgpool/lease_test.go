package pgpool

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pgtest"
)

// lease acquires a connection, and counts the calls of onEnd.
func lease(t *testing.T, pool *pgxpool.Pool) (l *Lease, ends *atomic.Int32) {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ends = &atomic.Int32{}
	return NewLease(conn, func() { ends.Add(1) }), ends
}

// Once COMMIT may be sent, the connection is not taken away.
func TestLeaseCommits(t *testing.T) {
	t.Parallel()
	pool := pgtest.Connect(t, pgtest.NewEmptyURL(t)+"&pool_max_conns=1")
	l, ends := lease(t, pool)
	if l.Committing() || !l.BeginCommit() || !l.Committing() {
		t.Error("it does not commit")
	}
	l.Revoke()
	if _, err := l.Conn().Exec(t.Context(), `SELECT 1`); err != nil || ends.Load() > 0 {
		t.Errorf("after Revoke: %v, and it has ended %d times", err, ends.Load())
	}
	l.Release()
	if l.Committing() || ends.Load() != 1 || pool.Stat().AcquiredConns() > 0 {
		t.Errorf("committing: %t, it has ended %d times, and %d connections are in use", l.Committing(), ends.Load(), pool.Stat().AcquiredConns())
	}
	l.Revoke() // of a lease that has ended
	if n := pool.Stat().TotalConns(); n != 1 || ends.Load() != 1 {
		t.Errorf("%d connections are open, and it has ended %d times", n, ends.Load())
	}
}

// A connection that is taken away ends what PostgreSQL does on it, and leaves the pool, which opens another one.
func TestLeaseIsRevoked(t *testing.T) {
	t.Parallel()
	pool := pgtest.Connect(t, pgtest.NewEmptyURL(t)+"&pool_max_conns=1")
	l, ends := lease(t, pool)
	done := make(chan error, 1)
	go func() {
		_, err := l.Conn().Exec(t.Context(), `SELECT pg_sleep(3600) /* a handler */`)
		done <- err
	}()
	watch := pgtest.Connect(t, pool.Config().ConnString())
	const sleeps = `SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%a handler%' AND pid <> pg_backend_pid() AND state = 'active'`
	pgtest.AwaitSQL(t, watch, "the statement runs", sleeps)
	l.Revoke()
	if err := pgtest.Receive(t, "the statement ends", done); err == nil {
		t.Error("the statement succeeds")
	}
	if l.BeginCommit() || l.Committing() || ends.Load() != 1 {
		t.Errorf("committing: %t, it has ended %d times", l.Committing(), ends.Load())
	}
	if n := pgtest.Scan[int](t, pool, `SELECT 1`); n != 1 {
		t.Error("the pool has no other connection")
	}
	l.Release()
	if !l.Conn().IsClosed() || ends.Load() != 1 {
		t.Errorf("closed: %t, it has ended %d times", l.Conn().IsClosed(), ends.Load())
	}
}

// Whoever comes first ends it, once, and whether COMMIT may be sent is never in doubt.
func TestLeaseEndsOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.Connect(t, pgtest.NewEmptyURL(t)+"&pool_max_conns=2")
	for range 50 {
		l, ends := lease(t, pool)
		var wg sync.WaitGroup
		wg.Go(l.Revoke)
		wg.Go(func() {
			defer l.Release()
			if l.BeginCommit() && !l.Committing() {
				t.Error("it was taken away from a COMMIT")
			}
		})
		wg.Wait()
		if n := ends.Load(); n != 1 {
			t.Fatalf("it has ended %d times", n)
		}
	}
}
