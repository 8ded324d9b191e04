package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pook/stripeonce/internal/compare"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
)

const (
	// maxKept is of how many comparisons the differences are kept in memory, and maxDifferences how many of each.
	maxKept        = 10
	maxDifferences = 100
)

// work is what the console does in the background: one task at a time.
type work struct {
	ctx   context.Context // ends with Close
	stop  context.CancelCauseFunc
	group sync.WaitGroup

	mu   sync.Mutex
	busy bool
	run  string // in progress, once it is recorded
	kept []comparison
}

// comparison has the differences that a run found.
type comparison struct {
	run         string
	differences []difference
}

// difference is one field in which a stored object differs from Stripe's.
type difference struct {
	Type, ID, Field string
	Here, There     string // the values, as JSON
}

// name is how a run's record names the difference: without the values, which may be customers' data.
func (d *difference) name() string { return d.Type + "/" + d.ID + "." + d.Field }

// compared are the counts of a comparison that the console started.
type compared struct {
	mirror.VerifyResult
	Differs []string `json:"differs,omitempty"` // the first maxDifferences
}

var (
	errStopping = errors.New("interrupted: the process is stopping")
	errForm     = errors.New("the form cannot be read")
)

func (w *work) init() { w.ctx, w.stop = context.WithCancelCause(context.Background()) }

// Close interrupts the run that the console has started, if one is in progress, and waits for its end. After that, the console starts
// none. Call it before the pool is closed, which otherwise waits for that run.
func (c *Console) Close() {
	c.work.mu.Lock()
	c.work.stop(errStopping)
	c.work.mu.Unlock()
	c.work.group.Wait()
}

// take reserves the work for a task, whose end calls release.
func (w *work) take() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ctx.Err() != nil:
		return &unavailableError{why: "The process is stopping."}
	case w.busy:
		return &unavailableError{why: "A run is in progress that was started from this console: wait for its end.", run: w.run}
	}
	w.busy = true
	w.group.Add(1)
	return nil
}

func (w *work) release() {
	w.mu.Lock()
	w.busy, w.run = false, ""
	w.mu.Unlock()
	w.group.Done()
}

// recorded notes the id of the run in progress.
func (w *work) recorded(run string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run = run
}

// add keeps a difference that a run has found.
func (w *work) add(run string, d difference) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := len(w.kept) - 1
	if last < 0 || w.kept[last].run != run {
		w.kept = append(w.kept, comparison{run: run})
		last = len(w.kept) - 1
	}
	if of := &w.kept[last]; len(of.differences) < maxDifferences {
		of.differences = append(of.differences, d)
	}
	if len(w.kept) > maxKept {
		w.kept = slices.Delete(w.kept, 0, 1)
	}
}

// found returns the differences that a run has found, if they are kept.
func (w *work) found(run string) []difference {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.kept {
		if w.kept[i].run == run {
			return slices.Clone(w.kept[i].differences)
		}
	}
	return nil
}

// operatorOf returns the operator of what a request starts, which is recorded with the user and the reason. apiTimeout bounds each
// request to Stripe.
func (c *Console) operatorOf(r *http.Request, reason string, apiTimeout time.Duration) *operations.Operator {
	by := "console"
	if c.config.User != nil {
		if user := c.config.User(r); user != "" {
			by += " (" + user + ")"
		}
	}
	return operations.New(c.pool, &operations.Config{
		Applier: c.receiver, APIKey: c.config.APIKey, APIBase: c.config.APIBase, APITimeout: apiTimeout, Operator: by, Reason: reason, Logger: c.config.Logger,
	})
}

// begin records a task and starts it in the background. It returns the id of its run.
func (c *Console) begin(r *request, t *task, reason string) (id string, err error) {
	if err := c.work.take(); err != nil {
		return "", err
	}
	begun := false
	defer func() {
		if !begun {
			c.work.release()
		}
	}()
	run, do, err := c.prepare(r, t, reason)
	if err != nil {
		return "", err
	}
	if id = run.ID(); id == "" {
		return "", errors.New("the run could not be recorded, and was not started")
	}
	begun = true
	c.work.recorded(id)
	go c.workOn(id, t, do)
	return id, nil
}

// prepare records a task, and returns the function that does it and finishes the record.
func (c *Console) prepare(r *request, t *task, reason string) (run *operations.RunRecording, do func(context.Context) error, err error) {
	operator := c.operatorOf(r.Request, reason, operations.DefaultAPITimeout)
	switch {
	case t.ofGroup():
		return c.prepareGroup(r.ctx, operator, t, reason)
	case t.Do == doReconcile:
		run = operator.StartRun(operations.RunReconcile, map[string]any{"since": t.since().String(), "account": t.Account})
		run.Progress(r.ctx, operations.ReconcileResult{}, 0)
		return run, func(ctx context.Context) error {
			_, err := operator.Reconcile(ctx, operations.ReconcileOptions{Since: t.since(), Account: t.Account, Run: run})
			return err
		}, nil
	}
	config, err := c.comparison(r.ctx, t)
	if err != nil {
		return nil, nil, err
	}
	run = operator.StartRun(operations.RunVerify, config.Arguments())
	run.Progress(r.ctx, compared{}, 0)
	return run, func(ctx context.Context) error { return c.compare(ctx, config, run) }, nil
}

// workOn does a task within RunTimeout.
func (c *Console) workOn(id string, t *task, do func(context.Context) error) {
	defer c.work.release()
	tooLong := fmt.Errorf("stopped after %s (console.Config.RunTimeout): what is done is kept; for the rest use the commands", c.config.RunTimeout)
	ctx, cancel := context.WithTimeoutCause(c.work.ctx, c.config.RunTimeout, tooLong)
	defer cancel()
	if err := do(ctx); err != nil {
		c.config.Logger.WarnContext(ctx, "console: run failed", "run_id", id, "task", t.Title(), "error", err)
		return
	}
	c.config.Logger.InfoContext(ctx, "console: run finished", "run_id", id, "task", t.Title())
}

// compare compares objects with Stripe's, and records the run.
func (c *Console) compare(ctx context.Context, config *compare.Config, run *operations.RunRecording) error {
	var counts compared
	config.Each = func(d mirror.Difference) {
		one := difference{d.Type, d.ID, d.Field, shown(d.Local), shown(d.Stripe)}
		c.work.add(run.ID(), one)
		if len(counts.Differs) < maxDifferences {
			counts.Differs = append(counts.Differs, one.name())
		}
	}
	config.Progress = func(sum mirror.VerifyResult) {
		counts.VerifyResult = sum
		run.Progress(ctx, counts, 0)
	}
	var err error
	counts.VerifyResult, err = config.Run(ctx)
	run.Finish(ctx, counts, err)
	return err
}
