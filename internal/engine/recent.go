package engine

import (
	lru "github.com/hashicorp/golang-lru/v2"
)

// DefaultKeepRecent is the default of Config.KeepRecent.
const DefaultKeepRecent = 1024

// maxRecentObject bounds the object of a state that is kept, in bytes.
const maxRecentObject = 32 << 10

// recent keeps the newest version of the objects that this process wrote last, as OnChange's next before. A version counts
// only if the row says that it is still the row's: its revision, its event and the time of its write, which is PostgreSQL's,
// in microseconds. So one whose transaction was rolled back, or that another process has replaced, is not used. What SQL of
// somebody else's has changed in the row is not noticed, as the digest of a state does not notice it either: verify does.
// Nil: none are kept.
type recent[T any] struct{ versions *lru.Cache[Key, *written[T]] }

// written is a version as this process wrote it.
type written[T any] struct {
	state    *T
	revision int64
}

func newRecent[T any](size int) *recent[T] {
	if size <= 0 {
		return nil
	}
	versions, err := lru.New[Key, *written[T]](size)
	if err != nil { // of a size that is not positive
		panic(err)
	}
	return &recent[T]{versions}
}

// has reports whether a version is kept.
func (r *recent[T]) has(key Key) bool { return r != nil && r.versions.Contains(key) }

// keep keeps a copy of a version.
func (r *recent[T]) keep(key Key, next *Version[T], store Store[T]) {
	switch {
	case r == nil:
	case len(store.Head(next.State).Object) > maxRecentObject:
		r.versions.Remove(key)
	default:
		r.versions.Add(key, &written[T]{store.Clone(next.State), next.Revision})
	}
}

// find returns a copy of the version that a row has, or nil. It forgets a version that the row does not have any more.
func (r *recent[T]) find(key Key, row *Row[T], store Store[T]) *T {
	if r == nil {
		return nil
	}
	kept, found := r.versions.Get(key)
	if !found {
		return nil
	}
	if head := store.Head(kept.state); kept.revision != row.Revision || head.EventID != row.EventID || !head.UpdatedAt.Equal(row.UpdatedAt) {
		r.versions.Remove(key)
		return nil
	}
	return store.Clone(kept.state)
}
