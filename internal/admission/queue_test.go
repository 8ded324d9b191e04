package admission

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// holding returns a ticket that has the turn.
func holding(t *testing.T, q *Queues[int], key string) *Ticket[int] {
	t.Helper()
	ticket := q.Join(key)
	if !ticket.TryAcquire() {
		t.Fatalf("%s: the turn is not free", key)
	}
	return ticket
}

func checkEmpty(t *testing.T, q *Queues[int]) {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.byKey) > 0 {
		t.Errorf("queues without tickets are kept: %v", q.byKey)
	}
}

func TestQueuesAreFirstInFirstOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q Queues[int]
		first := holding(t, &q, "a")
		order := make(chan int, 10)
		for i := range cap(order) {
			go func() {
				ticket := q.Join("a")
				defer ticket.Release()
				if err := ticket.Acquire(t.Context(), time.Minute); err != nil {
					t.Error(err)
				}
				order <- i
			}()
			synctest.Wait()
		}
		if len(order) > 0 {
			t.Fatal("two tickets have the turn")
		}
		first.Release()
		for want := range cap(order) {
			if got := <-order; got != want {
				t.Errorf("ticket %d came as number %d", got, want)
			}
		}
		synctest.Wait()
		checkEmpty(t, &q)
	})
}

func TestQueuesKeysAreApart(t *testing.T) {
	t.Parallel()
	var q Queues[int]
	a, b := holding(t, &q, "a"), holding(t, &q, "b")
	a.Release()
	if second := q.Join("b"); second.TryAcquire() {
		t.Error("a ticket of another key ends the turn")
	} else {
		second.Release()
	}
	b.Release()
	checkEmpty(t, &q)
}

func TestTicketTryAcquire(t *testing.T) {
	t.Parallel()
	var q Queues[int]
	first, second := holding(t, &q, "a"), q.Join("a")
	if second.TryAcquire() {
		t.Error("two tickets have the turn")
	}
	if !first.TryAcquire() || first.Acquire(t.Context(), 0) != nil {
		t.Error("a ticket that has the turn does not keep it")
	}
	first.Release()
	if !second.TryAcquire() {
		t.Error("the turn is not free after Release")
	}
	second.Release()
	checkEmpty(t, &q)
}

// A ticket that never acquired leaves the turn alone, and its queue is kept for the others.
func TestTicketReleaseWithoutAcquire(t *testing.T) {
	t.Parallel()
	var q Queues[int]
	first, second := holding(t, &q, "a"), q.Join("a")
	second.Release()
	third := q.Join("a")
	if third.TryAcquire() {
		t.Error("the release of a waiting ticket ends the turn of another")
	}
	first.Release()
	third.Release()
	checkEmpty(t, &q)
}

func TestTicketReleaseTwice(t *testing.T) {
	t.Parallel()
	var q Queues[int]
	first := holding(t, &q, "a")
	second, third := q.Join("a"), q.Join("a")
	first.Release()
	if !second.TryAcquire() {
		t.Fatal("the turn is not free after Release")
	}
	first.Release()
	if third.TryAcquire() {
		t.Error("a second Release ends the turn of another")
	}
	if first.TryAcquire() {
		t.Error("a released ticket has the turn")
	}
	third.Release()
	third.Release()
	if fourth := q.Join("a"); fourth.TryAcquire() {
		t.Error("a second Release makes a second queue for the key")
	}
	second.Release()
	if err := second.Acquire(t.Context(), time.Hour); !errors.Is(err, ErrQueueTimeout) {
		t.Errorf("Acquire of a released ticket: %v", err)
	}
}
