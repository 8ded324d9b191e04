package engine

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Job compares and imports the objects of one type.
type Job struct {
	Type string // "invoice"
	// Import stores the objects that Stripe created since a time (zero: all) and that differ from their rows, or have none, beginning
	// at a position. It calls page after each page of Stripe's list, with the counts since it was called; an error of page ends it.
	Import func(ctx context.Context, since time.Time, from Position, page func(context.Context, Verified) error) (Verified, error)
	// Verify compares all objects with their rows, in both directions, and stores those that differ. It calls page after each page of
	// Stripe's list, as Import does.
	Verify func(ctx context.Context, page func(context.Context, Verified) error) (Verified, error)
}

// Job returns the job of the engine's type.
func (e *Engine[T]) Job(pool *pgxpool.Pool, config *VerifyConfig) Job {
	return Job{
		Type: e.rules.Object,
		Import: func(ctx context.Context, since time.Time, from Position, page func(context.Context, Verified) error) (Verified, error) {
			c := *config
			c.Import, c.Since, c.From, c.Progress = true, since, from, page
			return e.Verify(ctx, pool, &c)
		},
		Verify: func(ctx context.Context, page func(context.Context, Verified) error) (Verified, error) {
			c := *config
			c.Progress = page
			return e.Verify(ctx, pool, &c)
		},
	}
}
