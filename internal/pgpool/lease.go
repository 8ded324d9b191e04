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
// it away. Its holder calls Conn, BeginCommit and Release, anybody the others, concurrently.
type Lease struct {
	conn  *pgx.Conn
	onEnd func()

	mu         sync.Mutex
	pooled     *pgxpool.Conn // nil: released or revoked
	committing bool          // COMMIT has been sent, or is about to be
	revoked    bool
}

// NewLease returns the lease of a connection. OnEnd is called once, when the connection has been given back or taken away.
func NewLease(conn *pgxpool.Conn, onEnd func()) *Lease {
	return &Lease{conn: conn.Conn(), pooled: conn, onEnd: onEnd}
}

// Conn returns the connection. After Revoke everything on it fails.
func (l *Lease) Conn() *pgx.Conn { return l.conn }

// BeginCommit returns false if the connection has been taken away. Otherwise it no longer can be: a cancel request must not
// reach a COMMIT.
func (l *Lease) BeginCommit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committing = !l.revoked
	return l.committing
}

// Committing reports whether COMMIT has been sent, and the connection not been released since.
func (l *Lease) Committing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committing && l.pooled != nil
}

// Release gives the connection back to the pool. The holder calls it once, also after Revoke.
func (l *Lease) Release() {
	pooled := l.take(false)
	if pooled == nil {
		_ = l.conn.Close(context.Background()) // its socket is closed, or soon will be
		return
	}
	defer l.onEnd() // also if a hook of the pool panics
	pooled.Release()
}

// Revoke takes the connection out of the pool, which may open another one, cancels what PostgreSQL does on it, and closes
// it, so that PostgreSQL rolls back. The last two happen in the background. It does nothing if the connection has been
// released, or COMMIT been sent.
func (l *Lease) Revoke() {
	pooled := l.take(true)
	if pooled == nil {
		return
	}
	pg := pooled.Hijack().PgConn()
	l.onEnd()
	go func() {
		defer func() { _ = recover() }() // of the host's DialFunc
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		_ = pg.CancelRequest(ctx) // a statement that runs would not notice that its client is gone
		_ = pg.Conn().Close()
	}()
}

// take returns the connection, which is then nobody else's to give back; nil if there is none to be taken.
func (l *Lease) take(revoke bool) *pgxpool.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revoke && l.committing || l.pooled == nil {
		return nil
	}
	pooled := l.pooled
	l.pooled, l.revoked = nil, revoke
	return pooled
}
