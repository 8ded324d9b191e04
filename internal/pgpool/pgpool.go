// Package pgpool acquires connections from a host's pgxpool.Pool, and replaces those that turn out to be unfit: the
// connection has died, or its session was changed by a handler of an earlier event or by other code of the host's.
package pgpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/fault"
)

// Pool acquires connections within a timeout.
type Pool struct {
	*pgxpool.Pool
	AcquireTimeout time.Duration
}

// notAcquiredError reports that no connection was acquired.
type notAcquiredError struct{ error }

func (e notAcquiredError) Unwrap() error { return e.error }

// IsNotAcquired reports whether err is that no connection was acquired.
func IsNotAcquired(err error) bool { return errors.As(err, new(notAcquiredError)) }

// Acquire returns a connection within AcquireTimeout, and whether it is fresh: opened for this call, as far as is known,
// since the pool counts the connections that it opens for everybody. Nobody can have changed the session of a fresh
// connection. The error wraps fault.ErrUnavailable.
func (p *Pool) Acquire(ctx context.Context) (conn *pgxpool.Conn, fresh bool, err error) {
	return p.acquire(ctx, p.AcquireTimeout)
}

func (p *Pool) acquire(ctx context.Context, limit time.Duration) (conn *pgxpool.Conn, fresh bool, err error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	before := p.Stat().NewConnsCount()
	conn, err = p.Pool.Acquire(limited)
	switch {
	case err == nil:
		return conn, p.Stat().NewConnsCount() > before, nil
	case ctx.Err() != nil:
		err = fmt.Errorf("no time was left to acquire a PostgreSQL connection: %w", err)
	case limit == p.AcquireTimeout:
		err = fmt.Errorf("could not acquire a PostgreSQL connection within %s (webhooks.Config.AcquireTimeout): %w", limit, err)
	default:
		err = fmt.Errorf("could not acquire a PostgreSQL connection: %w", err)
	}
	return nil, false, notAcquiredError{fault.Unavailable(err)}
}

// MaxUnfit bounds how many unfit connections one delivery takes from the pool, each of which is closed: all connections
// of the pool may have died at once, as when the server was restarted.
func (p *Pool) MaxUnfit() int { return int(p.Config().MaxConns) }

// Do runs fn on a connection. While the connection turns out to be unfit, it retries on another one, at most MaxUnfit times:
// the connection has died, or it is not fresh and says that a table or a privilege is missing. Fn must be safe to repeat. Do
// returns fn's error as fault.Classify returns it.
func (p *Pool) Do(ctx context.Context, fn func(conn *pgxpool.Conn) error) error {
	return p.DoWithin(ctx, p.AcquireTimeout, true, fn)
}

// DoWithin is Do with a limit on acquiring a connection. Without doubtsSession, a missing table or privilege is believed on
// any connection.
func (p *Pool) DoWithin(ctx context.Context, limit time.Duration, doubtsSession bool, fn func(conn *pgxpool.Conn) error) error {
	for unfit := 0; ; unfit++ {
		again, err := p.doOnce(ctx, limit, doubtsSession, fn)
		if !again || unfit == p.MaxUnfit() {
			return err
		}
	}
}

func (p *Pool) doOnce(ctx context.Context, limit time.Duration, doubtsSession bool, fn func(conn *pgxpool.Conn) error) (unfit bool, err error) {
	conn, fresh, err := p.acquire(ctx, limit)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	err = fn(conn)
	closed := conn.Conn().IsClosed()
	own := errors.Is(err, fault.ErrReadOnly) || errors.Is(err, fault.ErrUnsuitable) // fn closed the connection itself
	died := err != nil && closed && ctx.Err() == nil && !own
	err = fault.Classify(err, fault.Circumstances{TimeUp: ctx.Err() != nil, ConnClosed: closed})
	if fault.IsDoubtful(err) && !fresh && doubtsSession {
		_ = conn.Conn().Close(ctx)
		return true, err
	}
	return died, err
}
