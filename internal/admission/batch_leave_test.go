package admission

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaitingItemGivesUp(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]struct{ ctx, wait time.Duration }{
		"wait":    {time.Hour, time.Second},
		"context": {time.Second, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(1, 8, limit.wait)
				ctx, cancel := context.WithTimeout(t.Context(), limit.ctx)
				defer cancel()
				_, first := f.carry(t.Context(), 1)
				expectBegan(t, f, 1)
				one, carried := f.carry(ctx, 2)
				time.Sleep(time.Second - time.Nanosecond)
				expectWaiting(t, carried)
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				if len(carried) == 0 || <-carried {
					t.Fatal("Carry does not return false")
				}
				f.end <- done
				expectCarried(t, first)
				expectNone(t, f)
				if one.carried.Load() != 0 {
					t.Error("an item that gave up is carried")
				}
				f.check(t, 1)
			})
		})
	}
}

// An item that gives up leaves the others in their order.
func TestItemInTheMiddleGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1, 8, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		_, first := f.carry(t.Context(), 1)
		expectBegan(t, f, 1)
		_, second := f.carry(t.Context(), 2)
		_, third := f.carry(ctx, 3)
		_, fourth := f.carry(t.Context(), 4)
		_, fifth := f.carry(t.Context(), 5)
		cancel()
		synctest.Wait()
		if <-third {
			t.Error("an item whose context has ended is carried")
		}
		f.end <- done
		expectBegan(t, f, 2, 4, 5)
		f.end <- done
		expectCarried(t, first, second, fourth, fifth)
	})
}

// An item is taken into a batch at the moment at which it gives up. It is not lost: it leads, or waits for the leader.
func TestItemIsTakenWhileItGivesUp(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // of two ready channels, select takes either
		synctest.Test(t, func(t *testing.T) {
			b := NewBatches[*item](1, 8, time.Second)
			own := make(members, 3)
			for i := range own {
				own[i] = new(Member[*item])
				b.join(own[i])
			}
			b.pass() // of the first, to the others
			if lead, carried := b.await(ended, own[1]); len(lead) != 2 || lead[0] != own[1] || lead[1] != own[2] || !carried {
				t.Fatalf("the second leads %v, %t", lead, carried)
			}
			followed := make(chan bool, 1)
			go func() {
				lead, carried := b.await(ended, own[2])
				followed <- carried && lead == nil
			}()
			synctest.Wait()
			if len(followed) > 0 {
				t.Fatal("the third does not wait for the batch that has taken it")
			}
			own[2].Finish()
			if !<-followed {
				t.Error("the third is not carried")
			}
		})
	}
}

// The wait passes at the moment at which a batch ends. Either may win.
func TestWaitEndsWithABatch(t *testing.T) {
	t.Parallel()
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			b := NewBatches[*item](1, 8, time.Second)
			run := func(batch members) {
				for _, m := range batch {
					m.Item.carried.Add(1)
				}
				time.Sleep(time.Second)
			}
			go b.Carry(t.Context(), new(item), run)
			synctest.Wait()
			for range 3 {
				go func() {
					one, want := new(item), int32(0)
					if b.Carry(t.Context(), one, run) {
						want = 1
					}
					if got := one.carried.Load(); got != want {
						t.Errorf("carried %d times, want %d", got, want)
					}
				}()
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if b.free != 1 || len(b.waiting) > 0 {
				t.Errorf("%d batches are free and %d items wait", b.free, len(b.waiting))
			}
		})
	}
}

// An item in a batch waits for its end, even if its context ends and the wait passes.
func TestItemInABatchDoesNotGiveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1, 8, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		_, first := f.carry(t.Context(), 1)
		_, second := f.carry(t.Context(), 2)
		_, third := f.carry(ctx, 3)
		f.end <- done
		expectBegan(t, f, 1)
		expectBegan(t, f, 2, 3)
		cancel()
		time.Sleep(time.Hour)
		expectWaiting(t, second, third)
		f.end <- done
		expectCarried(t, first, second, third)
	})
}
