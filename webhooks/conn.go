package webhooks

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/fault"
)

// errDeadConn is wrapped where a connection of the pool turned out to have died before anything that matters was sent.
var errDeadConn = errors.New("the pool's connection had died")

// maxDeadConns bounds how many dead connections one delivery takes from the pool, each of which it closes: all that the
// pool has may have died at once, as when the server was restarted.
func (r *Receiver) maxDeadConns() int { return int(r.pool.Config().MaxConns) }

func (r *Receiver) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, r.config.AcquireTimeout)
	defer cancel()
	conn, err := r.pool.Acquire(limited)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: no time was left to acquire a PostgreSQL connection: %w", ErrUnavailable, err)
	default:
		return nil, fmt.Errorf("%w: could not acquire a PostgreSQL connection within %s (webhooks.Config.AcquireTimeout): %w",
			ErrUnavailable, r.config.AcquireTimeout, err)
	}
}

// acquireBy also says whether the connection was opened for it, as far as is known: the pool counts those of all. Nobody
// can have spoilt the session of a new one.
func (r *Receiver) acquireBy(ctx context.Context, acquire func(context.Context) (*pgxpool.Conn, error)) (conn *pgxpool.Conn, opened bool, err error) {
	before := r.pool.Stat().NewConnsCount()
	conn, err = acquire(ctx)
	return conn, r.pool.Stat().NewConnsCount() > before, err
}

// onLiveConn runs what may safely be run again on a connection, and on another one while it turns out that the one
// before had died, or that its session was spoilt.
func (r *Receiver) onLiveConn(ctx context.Context, fn func(conn *pgxpool.Conn) error) error {
	for unfit := 0; ; unfit++ {
		again, err := r.onOneConn(ctx, fn)
		if !again || unfit == r.maxDeadConns() {
			return err
		}
	}
}

func (r *Receiver) onOneConn(ctx context.Context, fn func(conn *pgxpool.Conn) error) (unfit bool, err error) {
	conn, opened, err := r.acquireBy(ctx, r.acquire)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	err = fn(conn)
	closed := conn.Conn().IsClosed()
	died := err != nil && closed && ctx.Err() == nil
	err = fault.Classify(err, fault.Circumstances{TimeUp: ctx.Err() != nil, ConnClosed: closed})
	if fault.IsDoubtful(err) && !opened { // somebody may have spoilt it: only a new connection tells
		_ = conn.Conn().Close(ctx)
		return true, err
	}
	return died, err
}
