package main

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/pglocal"
)

// pooledSubscriptions is the part of -subscriptions behind PgBouncer.
const pooledSubscriptions = 0.6

// overPgBouncer compares the receivers behind PgBouncer in transaction mode, without prepared statements, and stripeonce with itself on a
// direct connection, where PgBouncer is installed.
func (b *stand) overPgBouncer() error {
	bouncer, err := pglocal.StartPgBouncer(b.ctx, "host="+b.cluster.Socket()+" port=5432", "transaction", *connections)
	if errors.Is(err, pglocal.ErrNoPgBouncer) {
		progress("without PgBouncer: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = bouncer.Stop() }()
	for _, w := range []*workload{projectionOnly, onChange} {
		var hand, own, direct measurements
		for round := range *rounds {
			list := requests(uint64(3000+round), int(float64(*lives)*pooledSubscriptions), w)
			if err := b.pooledRound(bouncer, w, list, &hand, &own, &direct); err != nil {
				return fmt.Errorf("behind PgBouncer, %s: %w", w.what, err)
			}
			progress("round %d behind PgBouncer, %s: %s; %s, direct", round+1, w.what, own.against(&hand), direct.against(&hand))
		}
		b.add("new events/s behind PgBouncer in transaction mode: "+w.what, hand.fresh, own.fresh, "")
		b.addAgainstDirect("the same, against stripeonce with a direct connection", direct.fresh, own.fresh)
		b.addAgainstDirect("PostgreSQL's CPU of the same, µs", direct.freshServer, own.freshServer)
	}
	return nil
}

func (b *stand) addAgainstDirect(what string, direct, pooled []float64) {
	b.add(what, direct, pooled, "")
	against := &b.rows[len(b.rows)-1]
	against.hand = "direct: " + against.hand
}

// pooledRound measures the handwritten receiver and stripeonce behind PgBouncer, and stripeonce without it.
func (b *stand) pooledRound(bouncer *pglocal.PgBouncer, w *workload, list [][]byte, of ...*measurements) error {
	through := func(i int, url string) (string, error) {
		config, err := pgx.ParseConfig(url)
		if err != nil || i == 2 {
			return url, err
		}
		return bouncer.URL(config.Database) + "&default_query_exec_mode=exec", nil
	}
	all, stop, err := b.contestants([]string{byHand, ours, ours}, comparison{load: w, inFlight: *connections}, list, through)
	defer stop()
	if err != nil {
		return err
	}
	measured, err := warm(all, list, *connections)
	if err != nil {
		return err
	}
	took, err := b.takeTurns(all, measured, *connections)
	if err != nil {
		return err
	}
	for i, m := range of {
		m.addFresh(took[i])
	}
	return nil
}
