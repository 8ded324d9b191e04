package webhooks

import (
	"testing"
	"testing/synctest"
	"time"
)

// Of the workers that have nothing to do at most maxIdleWorkers wait for more, each for workerIdle. Those that wait take
// the next jobs.
func TestIdleWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorkers()
		// idle is how many workers wait: each takes a job, and waits again when it is done.
		idle := func() (n int) {
			synctest.Wait()
			release := make(chan struct{})
			for taken := true; taken; {
				select {
				case w.jobs <- func() { <-release }:
					n++
				default:
					taken = false
				}
			}
			close(release)
			synctest.Wait()
			return n
		}
		burst := func(jobs int) {
			release := make(chan struct{})
			for range jobs {
				w.do(func() { <-release })
			}
			synctest.Wait() // all are at work at once
			close(release)
		}
		for _, c := range []struct{ jobs, want int }{{1, 1}, {1, 1}, {10, 10}, {10 * maxIdleWorkers, maxIdleWorkers}, {1, maxIdleWorkers}, {maxIdleWorkers + 1, maxIdleWorkers}} {
			burst(c.jobs)
			if n := idle(); n != c.want {
				t.Errorf("after %d jobs at once %d workers wait, want %d", c.jobs, n, c.want)
			}
		}
		time.Sleep(2 * workerIdle) // of the bubble's clock
		if n := idle(); n != 0 {
			t.Errorf("%d workers wait forever", n)
		}
		burst(3)
		if n := idle(); n != 3 {
			t.Errorf("after a rest and 3 jobs %d workers wait, want 3", n)
		}
		for range 3 { // each job starts the wait anew
			time.Sleep(workerIdle * 3 / 5)
			burst(1)
			synctest.Wait()
		}
		time.Sleep(workerIdle * 3 / 5)
		if n := idle(); n != 1 {
			t.Errorf("%d workers wait for more than has come, want 1", n)
		}
		time.Sleep(2 * workerIdle)
	})
}
