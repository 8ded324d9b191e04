package admission

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTicketTimesOut(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]struct{ ctx, wait time.Duration }{
		"limit":   {time.Hour, time.Second},
		"context": {time.Second, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var q Queues[int]
				first, second := holding(t, &q, "a"), q.Join("a")
				ctx, cancel := context.WithTimeout(t.Context(), limit.ctx)
				defer cancel()
				start := time.Now()
				if err := second.Acquire(ctx, limit.wait); !errors.Is(err, ErrQueueTimeout) {
					t.Errorf("Acquire of a taken turn: %v", err)
				}
				if waited := time.Since(start); waited != time.Second {
					t.Errorf("waited %s", waited)
				}
				second.Release()
				first.Release()
				checkEmpty(t, &q)
			})
		})
	}
}

// A free turn is acquired even if the context has ended: the caller checks its context by itself.
func TestTicketAcquiresAFreeTurn(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var q Queues[int]
	for range 100 { // of two ready channels, select takes either
		ticket := q.Join("a")
		if err := ticket.Acquire(ended, 0); err != nil {
			t.Fatal(err)
		}
		ticket.Release()
	}
	checkEmpty(t, &q)
}

// The limit passes at the moment at which the turn is free. Either may win, and the turn is not lost.
func TestTicketTimesOutWhileItGetsTheTurn(t *testing.T) {
	t.Parallel()
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			var q Queues[int]
			first := holding(t, &q, "a")
			for range 3 {
				go func() {
					ticket := q.Join("a")
					defer ticket.Release()
					err := ticket.Acquire(t.Context(), time.Second)
					if got, has := err == nil, hasTurn(ticket); got != has {
						t.Errorf("Acquire: %v, and acquired is %t", err, has)
					}
				}()
			}
			time.Sleep(time.Second)
			first.Release()
			synctest.Wait()
			checkEmpty(t, &q)
			holding(t, &q, "a").Release()
		})
	}
}

func hasTurn(t *Ticket[int]) bool {
	t.queues.mu.Lock()
	defer t.queues.mu.Unlock()
	return t.acquired()
}
