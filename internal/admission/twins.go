package admission

import (
	"hash/maphash"
	"sync/atomic"
)

// twinSlots is the number of slots of Twins: at most some hundred kB.
const twinSlots = 1 << 12

// Twins remembers which snapshot event recent thin events correspond to. It is lossy as Seen is, and as safe: what it says is
// only used to look an event up in the ledger. The zero value is not usable: see NewTwins.
type Twins struct {
	seed  maphash.Seed
	slots [twinSlots]atomic.Pointer[twin]
}

type twin struct{ thin, snapshot string }

// NewTwins returns an empty memory.
func NewTwins() *Twins { return &Twins{seed: maphash.MakeSeed()} }

func (t *Twins) slot(thin string) *atomic.Pointer[twin] {
	return &t.slots[maphash.String(t.seed, thin)%twinSlots]
}

// Add records that a thin event corresponds to a snapshot event.
func (t *Twins) Add(thin, snapshot string) { t.slot(thin).Store(&twin{thin, snapshot}) }

// Of returns the snapshot event of a thin event, or "" if it is not known any more.
func (t *Twins) Of(thin string) string {
	if kept := t.slot(thin).Load(); kept != nil && kept.thin == thin {
		return kept.snapshot
	}
	return ""
}
