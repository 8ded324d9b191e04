package pgpool

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// cancelTimeout bounds the cancel request of Revoke.
const cancelTimeout = 2 * time.Second

// Lease is a connection of the pool in the hands of a goroutine, which releases it, or from which another goroutine takes
// it away. Only Release and Revoke may be called concurrently.
type Lease struct {
	conn       *pgx.Conn
	onEnd      func()
	mu         sync.Mutex
	pooled     *pgxpool.Conn // nil: released or revoked
	revoked    bool
	committing bool
}

// NewLease returns the lease of a connection. OnEnd is called once, just before the connection is given back or taken away.
// Nil: nothing is.
func NewLease(conn *pgxpool.Conn, onEnd func()) *Lease {
	return &Lease{conn: conn.Conn(), pooled: conn, onEnd: onEnd}
}

// Conn returns the connection. After Revoke everything on it fails.
func (l *Lease) Conn() *pgx.Conn { return l.conn }

// Release gives the connection back to the pool. The holder calls it once, also after Revoke.
func (l *Lease) Release() {
	pooled, revoked := l.end(false)
	if revoked {
		_ = l.conn.Close(context.Background()) // its socket is, or soon will be
	}
	if pooled != nil {
		pooled.Release()
	}
}

// BeginCommit returns false if the connection has been taken away. Otherwise it no longer can be: a cancel request must not
// reach a COMMIT.
func (l *Lease) BeginCommit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committing = !l.revoked
	return l.committing
}

// Revoke takes the connection out of the pool, which may open another one, cancels what PostgreSQL does on it, and closes
// it, so that PostgreSQL rolls back. The last two happen in the background. It returns false if the connection has been
// released, or COMMIT been sent.
func (l *Lease) Revoke() bool {
	pooled, _ := l.end(true)
	if pooled == nil {
		return false
	}
	pg := pooled.Hijack().PgConn()
	go func() {
		defer func() { _ = recover() }() // of the host's DialFunc
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		_ = pg.CancelRequest(ctx) // a statement that runs would not notice that its client is gone
		_ = pg.Conn().Close()
	}()
	return true
}

func (l *Lease) end(revoke bool) (pooled *pgxpool.Conn, revoked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revoke && l.committing {
		return nil, false
	}
	if pooled, l.pooled = l.pooled, nil; pooled == nil {
		return nil, l.revoked
	}
	l.revoked = revoke
	if l.onEnd != nil {
		l.onEnd()
	}
	return pooled, false
}
