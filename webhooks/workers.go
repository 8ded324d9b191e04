package webhooks

import (
	"sync/atomic"
	"time"
)

const (
	// workerIdle is how long a worker waits for more to do.
	workerIdle = time.Second
	// maxIdleWorkers bounds how many do, and with them the memory of their stacks.
	maxIdleWorkers = 64
)

// workers are goroutines that do one thing after the other. Their stacks have grown to what an event's work
// takes: that of a new goroutine would be copied several times on the way there.
type workers struct {
	jobs chan func()
	idle atomic.Int64
}

func newWorkers() *workers { return &workers{jobs: make(chan func())} }

// do has a worker do it, a new one if none is idle.
func (w *workers) do(job func()) {
	select {
	case w.jobs <- job:
	default:
		go w.work(job)
	}
}

func (w *workers) work(job func()) {
	timeout := time.NewTimer(workerIdle)
	defer timeout.Stop()
	for job != nil {
		job()
		job = w.next(timeout)
	}
}

// next waits for more to do; nil if there is nothing, or others wait already.
func (w *workers) next(timeout *time.Timer) func() {
	defer w.idle.Add(-1)
	if w.idle.Add(1) > maxIdleWorkers {
		return nil
	}
	timeout.Reset(workerIdle)
	select {
	case job := <-w.jobs:
		return job
	case <-timeout.C:
		return nil
	}
}
