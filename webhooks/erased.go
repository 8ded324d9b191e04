package webhooks

import (
	"context"
	"slices"
	"time"

	"github.com/pook/stripeonce/internal/erasure"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// An event of a customer whose data was erased (operations.Erase) is recorded without its object's id, and projections leave it out.
// An object that is new is noted as erased, so that what names it later is recognized. Handlers of the host's run: what they keep is theirs.

// lookUpErased returns the query that finds the deliveries of customers whose data was erased; none as long as there are none.
func (t *transaction) lookUpErased() []pgpipe.Query {
	if t.deliveries[0].inTx || !t.receiver.erasures.MustLook() {
		return nil
	}
	sent := time.Now()
	subjects := make([]erasure.Subject, len(t.deliveries))
	for i, d := range t.deliveries {
		subjects[i] = d.erasureSubject()
	}
	return []pgpipe.Query{func(ctx context.Context, db pgpipe.DBTX) error {
		states, anyErased, err := erasure.Find(ctx, db, subjects)
		if err != nil {
			return err
		}
		t.receiver.erasures.Learn(sent, anyErased)
		for i, d := range t.deliveries {
			d.erased, d.noteErased = states[i].Erased, nil
			if states[i].Unnoted {
				d.noteErased = func(ctx context.Context, db pgpipe.DBTX) error { return erasure.Note(ctx, db, &subjects[i], states[i]) }
			}
		}
		return nil
	}}
}

// erasureSubject returns what says whether the event is of an erased customer: the ids in its object, in that which was fetched, and the
// customer that it had before.
func (d *delivery) erasureSubject() erasure.Subject {
	ev := d.event()
	ids := append(erasure.IDs(ev.Object), erasure.Before(ev.Previous)...)
	if d.fetched.answer != nil {
		ids = append(ids, erasure.IDs(d.fetched.answer.Object)...)
	}
	if d.received.related.id != "" {
		ids = append(ids, d.received.related.id)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return erasure.Subject{
		Account: d.received.Account, OwnAccount: d.received.OwnAccount(), Livemode: ev.Livemode, ID: d.source().ObjectID(), IDs: ids,
	}
}

// subjectToRecord is the id that the ledger has of what the event is about. Empty: none, or it is of a customer whose data was erased.
func (d *delivery) subjectToRecord() string {
	if d.erased {
		return ""
	}
	return d.event().subject()
}
