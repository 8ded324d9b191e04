package webhooks

import (
	"context"
	"time"

	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// A batch has one event of each object, which has the object's turn. Further events of the object that wait for the turn ride
// along, if nothing but one projection, which can follow its own work, runs for them: Stripe often sends several at once. Each
// finds the row as the one before it has left it. The row is read once, and only the last one's row is sent.

// rider is a delivery in a batch.
type rider = admission.Member[*delivery]

// rideWait is how long a delivery waits for its object before it is looked up in the ledger, so that a known event does not
// wait for as long as a lock is held.
const rideWait = 50 * time.Millisecond

// ride waits for the turn of the delivery's object, and reports whether the delivery has it. If not, the time has passed, or the
// delivery may not ride, or it has ridden in the batch of an earlier event. That was its first attempt: it then has an outcome,
// an error, or neither.
func (r *Receiver) ride(ctx context.Context, d *delivery, limit time.Duration) (hasTurn bool) {
	if d.turn == nil || d.rode {
		return false
	}
	if d.begin(ctx); d.row() == nil || !r.batchable(d) {
		return false
	}
	waiting := admission.NewRider(d)
	rides, err := d.turn.AcquireOrRide(ctx, limit, waiting)
	if rides {
		waiting.AwaitFinish()
		d.rode = true
	}
	return err == nil && !rides
}

// row identifies the row that the event's one projection writes; nil: it has none, or other handlers.
func (d *delivery) row() any {
	if len(d.handlers) != 1 {
		return nil
	}
	return d.plans[0].Row
}

// withRiders returns a batch with the riders of its members, each behind its own. They are at most as many as MaxBatchSize.
func (r *Receiver) withRiders(batch []*rider) (all, riders []*rider) {
	for _, m := range batch {
		all = append(all, m)
		row := m.Item.row()
		if m.Item.turn == nil || row == nil {
			continue
		}
		taken := m.Item.turn.Riders(r.config.MaxBatchSize-len(riders), func(next *rider) bool {
			deadline, _ := next.Item.ctx.Deadline()
			return next.Item.row() == row && time.Until(deadline) >= batchMargin
		})
		for _, next := range taken {
			next.Item.follows = true
		}
		all, riders = append(all, taken...), append(riders, taken...)
	}
	return all, riders
}

// follow lets a rider find its row as the last event of the batch has left it. It returns false if that is not known: none of
// the earlier ones has been applied, and the row of a duplicate, for example, has not been read.
func (t *transaction) follow(d *delivery) bool {
	if !d.follows {
		return true
	}
	earlier := t.newest[d.row()]
	return earlier != nil && d.plans[0].Follow(earlier.plans[0].State)
}

// applied notes that an event has been applied, for the next one of its row.
func (t *transaction) applied(d *delivery) {
	if row := d.row(); row != nil {
		if t.newest == nil {
			t.newest = map[any]*delivery{}
		}
		t.newest[row] = d
	}
}

// isFollowed reports whether a later event of the batch has been applied to the row that this one has left. It must then be
// recorded together with that.
func (t *transaction) isFollowed(d *delivery) bool {
	row := d.row()
	return row != nil && t.newest[row] != nil && t.newest[row] != d
}

// writesOf returns the queries of the deliveries, but for those that write a row that a later one replaces.
func writesOf(writers []*delivery) (queries []pgpipe.Query) {
	replaced := make([]bool, len(writers))
	later := map[any]bool{}
	for i := len(writers) - 1; i >= 0; i-- {
		d := writers[i]
		if row := d.row(); row != nil && d.plans[0].Replaces {
			replaced[i] = later[row]
			later[row] = later[row] || d.follows && len(d.writes.Queries()) > 0
		}
	}
	for i, d := range writers {
		if !replaced[i] {
			queries = append(queries, d.writes.Queries()...)
		}
	}
	return queries
}
