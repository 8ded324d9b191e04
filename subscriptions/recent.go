package subscriptions

import (
	"bytes"
	"maps"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// DefaultKeepRecent is the default of Config.KeepRecent.
const DefaultKeepRecent = 1024

// maxRecentObject bounds the object of a subscription that is kept, in bytes.
const maxRecentObject = 32 << 10

// recent keeps the newest version of the subscriptions that this process wrote last, as OnChange's next Before. A version
// counts only if the row says that it is still the row's: its revision, its event and the time of its write, which is
// PostgreSQL's, in microseconds. So one whose transaction was rolled back, or that another process has replaced, is not
// used. What SQL of somebody else's has changed in the row or in its items is not noticed, as the digest of a state does not
// notice it either: verify does. Nil: none are kept.
type recent struct{ versions *lru.Cache[string, *written] }

// written is a version as this process wrote it.
type written struct {
	sub      *Subscription
	revision int64
}

func newRecent(size int) *recent {
	if size <= 0 {
		return nil
	}
	versions, err := lru.New[string, *written](size)
	if err != nil { // of a size that is not positive
		panic(err)
	}
	return &recent{versions}
}

// has reports whether a version is kept.
func (r *recent) has(id string) bool { return r != nil && r.versions.Contains(id) }

// keep keeps a copy of a version.
func (r *recent) keep(next *version) {
	switch {
	case r == nil:
	case len(next.sub.Object) > maxRecentObject:
		r.versions.Remove(next.sub.ID)
	default:
		r.versions.Add(next.sub.ID, &written{next.sub.clone(), next.revision})
	}
}

// find returns a copy of the version that a row has, or nil. It forgets a version that the row does not have any more.
func (r *recent) find(row *storedRow) *Subscription {
	if r == nil {
		return nil
	}
	kept, found := r.versions.Get(row.ID)
	if !found {
		return nil
	}
	if kept.revision != row.revision || kept.sub.LastEventID != row.LastEventID || !kept.sub.UpdatedAt.Equal(row.UpdatedAt) {
		r.versions.Remove(row.ID)
		return nil
	}
	return kept.sub.clone()
}

// clone returns a copy that shares nothing.
func (s *Subscription) clone() *Subscription {
	c := *s
	for _, at := range []**time.Time{
		&c.CancelAt, &c.CanceledAt, &c.EndedAt, &c.CurrentPeriodStart, &c.CurrentPeriodEnd, &c.TrialStart, &c.TrialEnd,
		&c.Created, &c.LastEventCreatedAt,
	} {
		*at = cloneOf(*at)
	}
	c.Quantity = cloneOf(s.Quantity)
	if c.PauseCollection = cloneOf(s.PauseCollection); c.PauseCollection != nil {
		c.PauseCollection.ResumesAt = cloneOf(c.PauseCollection.ResumesAt)
		c.PauseCollection.Object = bytes.Clone(c.PauseCollection.Object)
	}
	c.DiscountIDs, c.Metadata, c.Object = slices.Clone(s.DiscountIDs), maps.Clone(s.Metadata), bytes.Clone(s.Object)
	c.Items = slices.Clone(s.Items)
	for i := range c.Items {
		item := &c.Items[i]
		item.Quantity, item.Metadata = cloneOf(item.Quantity), maps.Clone(item.Metadata)
		item.CurrentPeriodStart, item.CurrentPeriodEnd = cloneOf(item.CurrentPeriodStart), cloneOf(item.CurrentPeriodEnd)
	}
	return &c
}

func cloneOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	value := *p
	return &value
}
