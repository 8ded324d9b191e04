package admission

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestBatchOfOneBeginsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(2, 8, time.Second)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, first := f.carry(t.Context(), 1)
		_, second := f.carry(ended, 2)
		expectBegan(t, f, 1)
		expectBegan(t, f, 2)
		_, third := f.carry(t.Context(), 3)
		expectNone(t, f)
		expectWaiting(t, first, second, third)
		f.end <- done
		expectBegan(t, f, 3)
		f.end <- done
		f.end <- done
		expectCarried(t, first, second, third)
		f.check(t, 2)
	})
}

// A batch has at most maxSize items, in their order. The rest wait for the next one.
func TestBatchesOfMaxSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1, 3, time.Second)
		_, first := f.carry(t.Context(), 0)
		expectBegan(t, f, 0)
		var waiting []chan bool
		for name := 1; name <= 7; name++ {
			_, carried := f.carry(t.Context(), name)
			waiting = append(waiting, carried)
		}
		f.end <- done
		expectCarried(t, first)
		expectBegan(t, f, 1, 2, 3)
		f.end <- done
		expectCarried(t, waiting[:3]...)
		expectWaiting(t, waiting[3:]...)
		expectBegan(t, f, 4, 5, 6)
		f.end <- done
		expectBegan(t, f, 7)
		f.end <- done
		expectCarried(t, waiting[3:]...)
		f.check(t, 1)
	})
}

// Finish releases a member's caller while its batch goes on. That of the leader stays.
func TestFinishReleasesEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1, 8, time.Second)
		_, first := f.carry(t.Context(), 1)
		expectBegan(t, f, 1)
		_, second := f.carry(t.Context(), 2)
		_, third := f.carry(t.Context(), 3)
		_, fourth := f.carry(t.Context(), 4)
		f.end <- done
		expectCarried(t, first)
		synctest.Wait()
		batch := <-f.began
		for _, m := range batch[:2] {
			if m.Finished() {
				t.Error("finished before Finish")
			}
			m.Finish()
			m.Finish()
			if !m.Finished() {
				t.Error("not finished after Finish")
			}
		}
		expectCarried(t, third)
		expectWaiting(t, second, fourth)
		_, fifth := f.carry(t.Context(), 5)
		expectNone(t, f)
		f.end <- done
		expectCarried(t, second, fourth)
		expectBegan(t, f, 5)
		f.end <- done
		expectCarried(t, fifth)
		f.check(t, 1)
	})
}

// The next batch begins before the callers of the one before it are released.
func TestSlotIsPassedBeforeTheMembersAreReleased(t *testing.T) {
	t.Parallel()
	b := NewBatches[*item](1, 8, time.Second)
	b.free = 0
	news := make(chan members, 2)
	follower, next := &Member[*item]{news: news}, &Member[*item]{news: news}
	b.waiting = members{next}
	b.lead(members{follower}, done)
	if batch := <-news; len(batch) != 1 || batch[0] != next {
		t.Error("the follower is released before the next batch begins")
	}
	if <-news != nil || !follower.Finished() || next.Finished() {
		t.Error("the follower is not released")
	}
}

// A batch that panics or ends its goroutine passes its slot on, and releases its members.
func TestRunDoesNotReturn(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(members){
		"panic":  func(members) { panic("of the batch") },
		"Goexit": func(members) { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(1, 2, time.Second)
				_, first := f.carry(t.Context(), 1)
				expectBegan(t, f, 1)
				ended := make(chan any, 1)
				go func() {
					returned := false
					defer func() {
						value := recover()
						if returned {
							value = "returned"
						}
						ended <- value
					}()
					f.Carry(t.Context(), &item{name: 2}, f.run)
					returned = true
				}()
				synctest.Wait()
				_, third := f.carry(t.Context(), 3)
				_, fourth := f.carry(t.Context(), 4)
				f.end <- done
				expectBegan(t, f, 2, 3)
				f.end <- end
				if value := <-ended; (name == "panic") != (value == "of the batch") || value == "returned" {
					t.Errorf("the leader ended with %v", value)
				}
				expectCarried(t, first, third)
				expectBegan(t, f, 4)
				f.end <- done
				expectCarried(t, fourth)
				f.check(t, 1)
			})
		})
	}
}

func BenchmarkBatchOfOne(b *testing.B) {
	b.ReportAllocs()
	batches, ctx, one := NewBatches[*item](1, 16, time.Second), b.Context(), new(item)
	for b.Loop() {
		batches.Carry(ctx, one, done)
	}
}
