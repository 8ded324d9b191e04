package main

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/webhooks"
)

// roundTrips counts an event's round trips on a connection with prepared statements. This receiver has seen the duplicate,
// so there is no transaction to roll back.
func (b *stand) roundTrips() error {
	url, err := b.database(ours)
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	trips := &pglocal.RoundTrips{}
	config.MaxConns, config.ConnConfig.DialFunc = 1, trips.Dial
	pool, err := pgxpool.NewWithConfig(b.ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	r, err := newOwn(pool, projectionOnly, false)
	if err != nil {
		return err
	}
	events, err := eventsOf(requests(1, 10, projectionOnly))
	if err != nil {
		return err
	}
	apply := func(ev *webhooks.Event) (int64, error) {
		before := trips.Count()
		_, err := r.Apply(b.ctx, ev)
		return trips.Count() - before, err
	}
	var fresh, duplicate int64
	for _, ev := range events { // the last ones count
		if fresh, err = apply(ev); err != nil {
			return err
		}
		if duplicate, err = apply(ev); err != nil {
			return err
		}
	}
	b.rows = append(b.rows, row{what: "round trips to PostgreSQL: a duplicate / a new event", own: fmt.Sprintf("%d / %d", duplicate, fresh), goal: "1 / 3, aim 1 / 2"})
	return nil
}
