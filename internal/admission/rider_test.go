package admission

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func fitsAll(int) bool { return true }

// waitsWith lets a ticket wait in a goroutine with a rider, or without one (0). It returns its answer: ride, turn or timeout.
func waitsWith(t *testing.T, q *Queues[int], rider int) chan string {
	t.Helper()
	answer := make(chan string, 1)
	go func() {
		ticket := q.Join("a")
		defer ticket.Release()
		var rides bool
		var err error
		if rider == 0 {
			err = ticket.Acquire(context.Background(), time.Minute)
		} else {
			rides, err = ticket.AcquireOrRide(context.Background(), time.Minute, rider)
		}
		switch {
		case errors.Is(err, ErrQueueTimeout):
			answer <- "timeout"
		case rides:
			answer <- "ride"
		default:
			answer <- "turn"
		}
	}()
	synctest.Wait()
	return answer
}

// The ticket that has the turn takes the riders of the next ones along, in order, up to the first that is none or does not fit.
func TestRiders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q Queues[int]
		first := holding(t, &q, "a")
		var answers []chan string
		for _, rider := range []int{1, 2, 3, 0, 4, 5} {
			answers = append(answers, waitsWith(t, &q, rider))
		}
		if got := first.Riders(2, fitsAll); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("of at most 2, the riders are %v", got)
		}
		if got := first.Riders(9, func(rider int) bool { return rider != 3 }); got != nil {
			t.Errorf("a rider that does not fit, or one behind it, is taken along: %v", got)
		}
		if got := first.Riders(9, fitsAll); !slices.Equal(got, []int{3}) {
			t.Errorf("before a ticket without a rider, the riders are %v", got)
		}
		first.Release()
		if got := first.Riders(9, fitsAll); got != nil {
			t.Errorf("without the turn, the riders are %v", got)
		}
		var got []string
		for _, answer := range answers {
			got = append(got, <-answer)
		}
		if want := []string{"ride", "ride", "ride", "turn", "turn", "turn"}; !slices.Equal(got, want) {
			t.Errorf("the tickets got %v, want %v", got, want)
		}
		synctest.Wait()
		checkEmpty(t, &q)
	})
}

// A ticket whose rider was taken along and did not get there waits again, behind the others.
func TestRiderWaitsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q Queues[int]
		first, second := holding(t, &q, "a"), q.Join("a")
		rode := make(chan struct{})
		again := make(chan error, 1)
		go func() {
			if rides, err := second.AcquireOrRide(t.Context(), time.Minute, 2); !rides || err != nil {
				t.Errorf("AcquireOrRide: %t, %v", rides, err)
			}
			close(rode)
			again <- second.Acquire(t.Context(), time.Minute)
		}()
		synctest.Wait()
		third := waitsWith(t, &q, 0)
		first.Riders(1, fitsAll)
		<-rode
		synctest.Wait()
		first.Release()
		if got := <-third; got != "turn" {
			t.Errorf("the one that waited all the time got %s", got)
		}
		if err := <-again; err != nil {
			t.Errorf("the one that waits again: %v", err)
		}
		second.Release()
		checkEmpty(t, &q)
	})
}

// Tickets offer riders, are taken along, and give up at random. Each rider is taken along at most once, and exactly if its
// ticket was told so.
func TestRidersAtRandom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q Queues[int]
		var turns atomic.Int32
		taken, rode := make([]atomic.Int32, 400), make([]atomic.Int32, 400)
		var rides, had int32
		var wg sync.WaitGroup
		for i := range taken {
			wg.Go(func() {
				time.Sleep(milliseconds(40))
				ctx, cancel := context.WithTimeout(t.Context(), milliseconds(20))
				defer cancel()
				ticket := q.Join("a")
				defer ticket.Release()
				rides, err := ticket.AcquireOrRide(ctx, milliseconds(20), i)
				switch {
				case rides:
					rode[i].Add(1)
					return
				case err != nil:
					return
				}
				atomic.AddInt32(&had, 1)
				if turns.Add(1) != 1 {
					t.Error("two tickets have the turn")
				}
				for _, rider := range ticket.Riders(rand.IntN(4), fitsAll) {
					taken[rider].Add(1)
				}
				time.Sleep(milliseconds(2))
				turns.Add(-1)
			})
		}
		wg.Wait()
		checkEmpty(t, &q)
		for i := range taken {
			if rode[i].Load() != taken[i].Load() || taken[i].Load() > 1 {
				t.Errorf("ticket %d rode %d times, and its rider was taken along %d times", i, rode[i].Load(), taken[i].Load())
			}
			rides += rode[i].Load()
		}
		if rides == 0 || had == 0 {
			t.Errorf("%d rode and %d had the turn: the test is to have both", rides, had)
		}
	})
}
