package webhooks

import "time"

// workerIdle is how long a worker waits for more to do.
const workerIdle = time.Second

// workers are goroutines that do one thing after the other. Their stacks have grown to what an event's work
// takes: that of a new goroutine would be copied several times on the way there.
type workers struct{ idle chan func() }

func newWorkers() *workers { return &workers{make(chan func())} }

// do has a worker do it, a new one if none is idle.
func (w *workers) do(job func()) {
	select {
	case w.idle <- job:
	default:
		go w.work(job)
	}
}

func (w *workers) work(job func()) {
	timeout := time.NewTimer(workerIdle)
	defer timeout.Stop()
	for {
		job()
		timeout.Reset(workerIdle)
		select {
		case job = <-w.idle:
		case <-timeout.C:
			return
		}
	}
}
