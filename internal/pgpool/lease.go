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
	conn    *pgx.Conn
	onEnd   func() // called once
	mu      sync.Mutex
	pooled  *pgxpool.Conn // nil: released or revoked
	revoked bool
}

// NewLease returns the lease of a connection. OnEnd is called when the connection no longer counts as acquired. Nil:
// nothing is.
func NewLease(conn *pgxpool.Conn, onEnd func()) *Lease {
	return &Lease{conn: conn.Conn(), pooled: conn, onEnd: onEnd}
}

// Conn returns the connection. After Revoke everything on it fails.
func (l *Lease) Conn() *pgx.Conn { return l.conn }

// Release gives the connection back to the pool. The holder calls it once, also after Revoke.
func (l *Lease) Release() {
	pooled, revoked := l.end(false)
	if revoked {
		_ = l.conn.Close(context.Background()) // its socket is closed
	}
	if pooled != nil {
		pooled.Release()
	}
}

// Revoke takes the connection out of the pool, which may open another one, cancels what PostgreSQL does on it, and closes
// it, so that PostgreSQL rolls back. The last two happen in the background. It returns false if the connection has been
// released.
func (l *Lease) Revoke() bool {
	pooled, _ := l.end(true)
	if pooled == nil {
		return false
	}
	pg := pooled.Hijack().PgConn()
	go func() {
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
	if pooled, l.pooled = l.pooled, nil; pooled == nil {
		return nil, l.revoked
	}
	l.revoked = revoke
	if l.onEnd != nil {
		l.onEnd()
	}
	return pooled, false
}
