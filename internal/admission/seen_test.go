package admission

import (
	"hash/maphash"
	"strconv"
	"sync"
	"testing"
)

func TestSeen(t *testing.T) {
	t.Parallel()
	s := NewSeen()
	if s.Has("evt_1") {
		t.Error("an empty filter has an id")
	}
	s.Add("evt_1")
	if !s.Has("evt_1") {
		t.Error("an id that was added is not there")
	}
	if s.Has("evt_2") {
		t.Error("an id that was not added is there")
	}
}

// Ids of the same slot are told apart, and the later one displaces the earlier one.
func TestSeenDisplaces(t *testing.T) {
	t.Parallel()
	s := NewSeen()
	slot := func(id string) uint64 { return maphash.String(s.seed, id) % seenSlots }
	other := ""
	for i := 0; slot(other) != slot("evt"); i++ {
		other = strconv.Itoa(i)
	}
	s.Add("evt")
	if s.Has(other) {
		t.Error("an id of the same slot is taken for one that was added")
	}
	s.Add(other)
	if !s.Has(other) || s.Has("evt") {
		t.Error("the later id does not displace the earlier one")
	}
}

// The filter keeps most of the ids that fit, so it uses all of its slots.
func TestSeenKeepsMost(t *testing.T) {
	t.Parallel()
	s := NewSeen()
	const ids = 8192
	for i := range ids {
		s.Add(strconv.Itoa(i))
	}
	kept := 0
	for i := range ids {
		if s.Has(strconv.Itoa(i)) {
			kept++
		}
	}
	if kept < ids*9/10 { // 94 % by chance
		t.Errorf("%d of %d ids are kept", kept, ids)
	}
}

func TestSeenIsConcurrent(t *testing.T) {
	t.Parallel()
	s := NewSeen()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				s.Add(strconv.Itoa(i))
				s.Has(strconv.Itoa(i + 1))
			}
		})
	}
	wg.Wait()
}
