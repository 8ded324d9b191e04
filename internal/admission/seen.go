package admission

import (
	"hash/maphash"
	"sync/atomic"
)

// seenSlots is the number of slots of a Seen: half a MiB.
const seenSlots = 1 << 16

// Seen is a filter of the ids that were added recently. It is lossy: each id has one slot, and a later id displaces the one
// before it. A hit is wrong only if the 64-bit hashes of two ids collide.
//
// The filter is a hint: an id that it has is worth a look-up in the ledger before anything else. PostgreSQL's reply
// decides, so a failover, a restored backup, or a pruned ledger cannot make the filter wrong. It is safe for concurrent use.
type Seen struct {
	seed  maphash.Seed
	slots [seenSlots]atomic.Uint64
}

// NewSeen returns an empty filter.
func NewSeen() *Seen { return &Seen{seed: maphash.MakeSeed()} }

// Add records the id.
func (s *Seen) Add(id string) {
	hash := maphash.String(s.seed, id)
	s.slots[hash%seenSlots].Store(hash)
}

// Has reports whether the id was probably added, and not displaced since.
func (s *Seen) Has(id string) bool {
	hash := maphash.String(s.seed, id)
	return s.slots[hash%seenSlots].Load() == hash
}
