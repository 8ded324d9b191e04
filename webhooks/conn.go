package webhooks

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// errDeadConn is wrapped where a connection of the pool turned out to have died before anything that matters was sent.
var errDeadConn = errors.New("the pool's connection had died")

// maxDeadConns bounds how many dead connections one delivery takes from the pool, each of which it closes: all that the
// pool has may have died at once, as when the server was restarted.
func (r *Receiver) maxDeadConns() int { return int(r.pool.Config().MaxConns) }

func (r *Receiver) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.AcquireTimeout)
	defer cancel()
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: could not acquire a PostgreSQL connection within %s: %w", ErrUnavailable, r.config.AcquireTimeout, err)
	}
	return conn, nil
}

// onLiveConn runs what may safely be run again on a connection, and on another one while it turns out that the one
// before had died.
func (r *Receiver) onLiveConn(ctx context.Context, fn func(conn *pgxpool.Conn) error) error {
	for dead := 0; ; dead++ {
		conn, err := r.acquire(ctx)
		if err != nil {
			return err
		}
		err = fn(conn)
		died := err != nil && conn.Conn().IsClosed() && ctx.Err() == nil
		err = classify(err, circumstances{timeUp: ctx.Err() != nil, closed: conn.Conn().IsClosed()})
		conn.Release()
		if !died || dead == r.maxDeadConns() {
			return err
		}
	}
}
