package main

import (
	"errors"
	"fmt"

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
		var hand, own, direct []float64
		for round := range *rounds {
			rates, err := b.pooledRound(bouncer, w, requests(uint64(3000+round), int(float64(*lives)*pooledSubscriptions), w))
			if err != nil {
				return fmt.Errorf("behind PgBouncer, %s: %w", w.what, err)
			}
			hand, own, direct = append(hand, rates[0]), append(own, rates[1]), append(direct, rates[2])
			progress("round %d behind PgBouncer, %s: %.0f events/s, %.2f × by hand, %.2f × a direct connection", round+1, w.what, rates[1], rates[1]/rates[0], rates[1]/rates[2])
		}
		b.add("new events/s behind PgBouncer in transaction mode: "+w.what, hand, own, "")
		b.add("the same, against stripeonce with a direct connection", direct, own, "")
		against := &b.rows[len(b.rows)-1]
		against.hand = "direct: " + against.hand
	}
	return nil
}

// pooledRound returns the rates of the handwritten receiver and of stripeonce behind PgBouncer, and of stripeonce without it.
func (b *stand) pooledRound(bouncer *pglocal.PgBouncer, w *workload, list [][]byte) (rates [3]float64, err error) {
	var all []contestant
	defer func() {
		for _, one := range all {
			one.stop()
		}
	}()
	for i, kind := range []string{byHand, ours, ours} {
		url, err := b.database(kind)
		if err != nil {
			return rates, err
		}
		if err := b.fillAccounts(url, list); err != nil {
			return rates, err
		}
		if i < 2 {
			url = bouncer.URL(b.newest()) + "&default_query_exec_mode=exec"
		}
		r, err := startReceiver(kind, w, url, *connections)
		if err != nil {
			return rates, err
		}
		all = append(all, contestant{kind, r})
	}
	measured, err := warm(all, list, *connections)
	if err != nil {
		return rates, err
	}
	took, err := b.takeTurns(all, measured, *connections)
	if err != nil {
		return rates, err
	}
	for i := range rates {
		rates[i] = took[i].rate()
	}
	return rates, nil
}
