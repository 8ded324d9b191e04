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

// NotAcquiredError reports that no connection was acquired.
type NotAcquiredError struct{ error }

func (e NotAcquiredError) Unwrap() error { return e.error }

// NotAcquired makes err a NotAcquiredError that wraps fault.ErrUnavailable.
func NotAcquired(err error) error { return NotAcquiredError{fault.Unavailable(err)} }

// IsNotAcquired reports whether err is that no connection was acquired.
func IsNotAcquired(err error) bool { return errors.As(err, new(NotAcquiredError)) }

// Acquire returns a connection within AcquireTimeout. The error wraps fault.ErrUnavailable.
func (p *Pool) Acquire(ctx context.Context) (*pgxpool.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, p.AcquireTimeout)
	defer cancel()
	conn, err := p.Pool.Acquire(limited)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, NotAcquired(fmt.Errorf("no time was left to acquire a PostgreSQL connection: %w", err))
	default:
		return nil, NotAcquired(fmt.Errorf("could not acquire a PostgreSQL connection within %s (webhooks.Config.AcquireTimeout): %w",
			p.AcquireTimeout, err))
	}
}

// AcquireFunc acquires a connection, such as Pool.Acquire.
type AcquireFunc func(ctx context.Context) (*pgxpool.Conn, error)

// AcquireBy is acquire, and reports whether the connection was fresh for the call, as far as is known: the pool counts the
// connections that it opens for everybody. Nobody can have changed the session of a new connection.
func (p *Pool) AcquireBy(ctx context.Context, acquire AcquireFunc) (conn *pgxpool.Conn, fresh bool, err error) {
	before := p.Stat().NewConnsCount()
	conn, err = acquire(ctx)
	return conn, p.Stat().NewConnsCount() > before, err
}

// MaxUnfit bounds how many unfit connections one delivery takes from the pool, each of which is closed: all connections
// of the pool may have died at once, as when the server was restarted.
func (p *Pool) MaxUnfit() int { return int(p.Config().MaxConns) }

// Do runs fn on a connection. While the connection turns out to be unfit, it retries on another one, at most MaxUnfit times.
// Fn must be safe to repeat. Do returns fn's error as fault.Classify returns it. With doubtsSession, a missing table or
// privilege is trusted only on a fresh connection.
func (p *Pool) Do(ctx context.Context, acquire AcquireFunc, doubtsSession bool, fn func(conn *pgxpool.Conn) error) error {
	for unfit := 0; ; unfit++ {
		again, err := p.doOnce(ctx, acquire, doubtsSession, fn)
		if !again || unfit == p.MaxUnfit() {
			return err
		}
	}
}

func (p *Pool) doOnce(ctx context.Context, acquire AcquireFunc, doubtsSession bool, fn func(conn *pgxpool.Conn) error) (unfit bool, err error) {
	conn, fresh, err := p.AcquireBy(ctx, acquire)
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
