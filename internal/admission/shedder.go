package admission

import (
	"errors"
	"sync"
	"time"
)

// ErrOverload reports that a Shedder refuses an item.
var ErrOverload = errors.New("deliveries arrive faster than they are processed, and have waited too long (webhooks.Config.TargetWait)")

// minAdmitted is how many waiting items a Shedder always allows, so that what does the work never idles.
const minAdmitted = 16

// Shedder refuses items while they arrive faster than they are served. Without it a queue grows to its limit and stays
// there: every item waits as long as the limit allows, and most are given up in the end.
//
// A burst is no overload: as long as any item has waited less than the target during the last interval, all are admitted.
// Once the shortest wait of an interval exceeds the target, only as many items are admitted to wait as are served within
// the target. That ends when nothing has been refused for an interval. The idea is that of CoDel
// (https://queue.acm.org/detail.cfm?id=2209336), applied where items enter, since a refused delivery should cost nothing.
//
// A Shedder is safe for concurrent use.
//
//	if err := shedder.Admit(); err != nil {
//		return err
//	}
//	waiting := shedder.Wait()
//	conn, err := pool.Acquire(ctx)
//	waiting.End(err == nil)
type Shedder struct {
	mu       sync.Mutex
	target   time.Duration
	interval time.Duration

	waiting    int
	began      time.Time // of the interval in which waits have exceeded the target; zero: the last wait has not
	served     int       // since began
	overloaded bool
	admitted   int // how many may wait while overloaded
	refusedAt  time.Time
}

// NewShedder returns a Shedder. With a target of 0 it never refuses.
func NewShedder(target, interval time.Duration) *Shedder {
	return &Shedder{target: target, interval: interval}
}

// Admit returns ErrOverload if an item that would wait now is to be refused.
func (s *Shedder) Admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.overloaded {
		return nil
	}
	now := time.Now()
	if s.waiting >= s.admitted {
		s.refusedAt = now
		return ErrOverload
	}
	s.endIfOver(now)
	return nil
}

// Waiting returns how many items wait.
func (s *Shedder) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// Overloaded reports whether items are being refused.
func (s *Shedder) Overloaded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endIfOver(time.Now())
	return s.overloaded
}

// endIfOver ends an overload if nothing has been refused for an interval.
func (s *Shedder) endIfOver(now time.Time) {
	if s.overloaded && now.Sub(s.refusedAt) >= s.interval {
		s.overloaded, s.began = false, time.Time{}
	}
}

// Waiting is an item that waits to be served.
type Waiting struct {
	shedder *Shedder
	since   time.Time
	ended   bool // guarded by the Shedder
}

// Wait notes that an item begins to wait.
func (s *Shedder) Wait() *Waiting {
	if s.target <= 0 {
		return nil
	}
	w := &Waiting{shedder: s, since: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == 0 && !s.overloaded {
		s.began = time.Time{} // nothing waited, so no queue has been standing
	}
	s.waiting++
	return w
}

// End notes that the item is served, or has given up. A second call does nothing.
func (w *Waiting) End(served bool) {
	if w == nil {
		return
	}
	s, now := w.shedder, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.ended {
		w.ended = true
		s.end(now.Sub(w.since), now, served)
	}
}

// end notes a wait.
func (s *Shedder) end(wait time.Duration, now time.Time, served bool) {
	s.waiting--
	switch {
	case wait <= s.target && !served: // it went to wait elsewhere
		return
	case wait <= s.target && !s.overloaded:
		s.began, s.served = time.Time{}, 0
		return
	case s.began.IsZero():
		s.began, s.served = now, 0
	}
	if served {
		s.served++
	}
	took := now.Sub(s.began)
	if took < s.interval {
		return
	}
	s.admitted = max(minAdmitted, int(float64(s.served)*s.target.Seconds()/took.Seconds()))
	if !s.overloaded {
		s.overloaded, s.refusedAt = true, now
	}
	s.began, s.served = now, 0 // of the next interval, whose rate may be another
}
