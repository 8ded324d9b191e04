package webhooks

import (
	"hash/maphash"
	"sync/atomic"
)

// recentEvents is how many events a receiver remembers to have seen in the ledger: half a MiB.
const recentEvents = 1 << 16

// recent remembers which events are probably in the ledger, since this receiver has put them there or found
// them. Such an event is looked up by one statement outside of a transaction, as it will most likely stay
// with that. It is a hint for which way to ask: what PostgreSQL answers decides, so nothing rests on this
// after a failover, a restored backup, or a pruned ledger.
type recent struct {
	seed  maphash.Seed
	marks [recentEvents]atomic.Uint64 // a mark displaces the one before it
}

func newRecent() *recent { return &recent{seed: maphash.MakeSeed()} }

func (r *recent) note(eventID string) {
	mark := maphash.String(r.seed, eventID)
	r.marks[mark%recentEvents].Store(mark)
}

func (r *recent) has(eventID string) bool {
	mark := maphash.String(r.seed, eventID)
	return r.marks[mark%recentEvents].Load() == mark
}
