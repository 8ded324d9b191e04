package admission

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Times of the tests. A server serves capacity items a second, each for an instant, in order of arrival. An item gives up
// after patience, and at most maxInFlight wait.
const (
	shedTarget   = time.Second
	shedInterval = 5 * time.Second
	capacity     = 80
	patience     = 5 * time.Second
	maxInFlight  = 1000
)

// server is a queue in front of a server, with a shedder.
type server struct {
	*Shedder
	queue []queued

	offered, full, refused, gaveUp int
	waits                          []time.Duration // of those that were served
}

type queued struct {
	*Waiting
	at time.Time
}

func (s *server) offer(n int) {
	for range n {
		s.offered++
		switch {
		case s.Admit() != nil:
			s.refused++
		case len(s.queue) == maxInFlight:
			s.full++
		default:
			s.queue = append(s.queue, queued{s.Wait(), time.Now()})
		}
	}
}

// run lets items arrive for a while, at a rate per second.
func (s *server) run(rate int, d time.Duration) {
	const tick = time.Second / capacity
	arrived := 0.0
	for end := time.Now().Add(d); time.Now().Before(end); {
		arrived += float64(rate) * tick.Seconds()
		s.offer(int(arrived))
		arrived -= float64(int(arrived))
		time.Sleep(tick)
		for len(s.queue) > 0 && time.Since(s.queue[0].at) >= patience {
			s.queue[0].End(false)
			s.queue = s.queue[1:]
			s.gaveUp++
		}
		if len(s.queue) > 0 {
			s.waits = append(s.waits, time.Since(s.queue[0].at))
			s.queue[0].End(true)
			s.queue = s.queue[1:]
		}
	}
}

// longest returns the longest wait of the items that were served since the first ones.
func (s *server) longest(since int) (longest time.Duration) {
	for _, wait := range s.waits[since:] {
		longest = max(longest, wait)
	}
	return longest
}

func shedding(t *testing.T, fn func(t *testing.T, s *server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, &server{Shedder: NewShedder(shedTarget, shedInterval)}) })
}

// A burst is absorbed whole, though its last items wait longer than the target.
func TestShedderAbsorbsABurst(t *testing.T) {
	t.Parallel()
	shedding(t, func(t *testing.T, s *server) {
		for range 5 {
			s.offer(350)
			s.run(0, 10*time.Second)
		}
		if s.refused > 0 || s.gaveUp > 0 || len(s.waits) != s.offered {
			t.Errorf("%d refused, %d gave up, %d served of %d", s.refused, s.gaveUp, len(s.waits), s.offered)
		}
		if s.longest(0) < 4*shedTarget {
			t.Errorf("the longest wait is %s, so the test shows nothing", s.longest(0))
		}
	})
}

// Below the capacity nothing is refused, however long it lasts.
func TestShedderBelowTheCapacity(t *testing.T) {
	t.Parallel()
	shedding(t, func(t *testing.T, s *server) {
		s.run(capacity*9/10, time.Minute)
		if s.refused > 0 || s.gaveUp > 0 {
			t.Errorf("%d refused, %d gave up", s.refused, s.gaveUp)
		}
	})
}

// At many times the capacity, items that are admitted wait for about the target instead of as long as they may, as many are
// served as before, none gives up, and the queue is drained soon after.
func TestShedderUnderOverload(t *testing.T) {
	t.Parallel()
	for _, times := range []int{2, 14, 76} {
		shedding(t, func(t *testing.T, s *server) {
			s.run(times*capacity, 2*shedInterval)
			if !s.Overloaded() || s.refused == 0 {
				t.Fatalf("%d times the capacity is no overload", times)
			}
			s.run(times*capacity, shedInterval) // the rate of the first interval is known
			served, gaveUp := len(s.waits), s.gaveUp
			const long = 20 * time.Second
			s.run(times*capacity, long)
			if n, want := len(s.waits)-served, int(long.Seconds()*capacity); n < want*99/100 {
				t.Errorf("%d times the capacity: %d served, want %d", times, n, want)
			}
			if longest := s.longest(served); longest > shedTarget*3/2 || s.gaveUp > gaveUp {
				t.Errorf("%d times the capacity: the longest wait is %s, and %d gave up", times, longest, s.gaveUp-gaveUp)
			}
			s.run(0, 2*time.Second)
			if len(s.queue) > 0 {
				t.Errorf("%d times the capacity: %d still wait", times, len(s.queue))
			}
		})
	}
}

// It ends when nothing has been refused for an interval.
func TestShedderEnds(t *testing.T) {
	t.Parallel()
	shedding(t, func(t *testing.T, s *server) {
		s.run(10*capacity, 3*shedInterval)
		refused := s.refused
		s.run(capacity/2, 2*shedInterval)
		if s.Overloaded() || s.refused > refused {
			t.Errorf("overloaded: %t, %d refused below the capacity", s.Overloaded(), s.refused-refused)
		}
		s.offer(300) // a burst is absorbed again
		s.run(0, shedInterval)
		if s.refused > refused {
			t.Errorf("%d of a burst refused", s.refused-refused)
		}
	})
}

// Where nothing is served any more, few wait, and it goes on when something is.
func TestShedderWithoutService(t *testing.T) {
	t.Parallel()
	shedding(t, func(t *testing.T, s *server) {
		const patient = 2 * shedTarget
		end := func(served bool) {
			for _, w := range s.queue {
				w.End(served)
				w.End(!served) // which does nothing
			}
			s.queue = nil
		}
		stuck := s.Wait() // so that the queue is never empty
		for range 2 * shedInterval / patient {
			s.offer(10 * minAdmitted)
			time.Sleep(patient)
			end(false)
		}
		s.offer(10 * minAdmitted)
		if !s.Overloaded() || len(s.queue) != minAdmitted-1 {
			t.Errorf("overloaded: %t, and %d wait", s.Overloaded(), len(s.queue))
		}
		stuck.End(false)
		end(true)
		s.run(1, 2*shedInterval)
		if s.Overloaded() {
			t.Error("still overloaded")
		}
	})
}

// Slow waits with nothing between them are no standing queue.
func TestShedderWithSlowWaits(t *testing.T) {
	t.Parallel()
	shedding(t, func(t *testing.T, s *server) {
		for range 5 {
			w := s.Wait()
			time.Sleep(2 * shedTarget)
			w.End(true)
			time.Sleep(2 * shedInterval)
		}
		if s.Overloaded() {
			t.Error("overloaded")
		}
	})
}

// A wait that goes on elsewhere says nothing, however short it was.
func TestShedderWithWaitsThatGoOn(t *testing.T) {
	t.Parallel()
	shedding(t, func(t *testing.T, s *server) {
		for range 30 {
			s.offer(20)
			s.Wait().End(false)
			s.run(4*capacity, time.Second)
		}
		if !s.Overloaded() {
			t.Error("not overloaded")
		}
	})
}

// An overload ends without another item, too, for whoever looks.
func TestShedderEndsByItself(t *testing.T) {
	t.Parallel()
	shedding(t, func(t *testing.T, s *server) {
		s.run(10*capacity, 3*shedInterval)
		if !s.Overloaded() {
			t.Error("not overloaded")
		}
		time.Sleep(shedInterval)
		if s.Overloaded() {
			t.Error("still overloaded")
		}
	})
}

func TestShedderOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{Shedder: NewShedder(0, shedInterval)}
		s.run(20*capacity, 4*shedInterval)
		if s.refused > 0 {
			t.Errorf("%d refused", s.refused)
		}
		if err := s.Admit(); errors.Is(err, ErrOverload) {
			t.Error(err)
		}
	})
}
