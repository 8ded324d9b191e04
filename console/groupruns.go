package console

import (
	"context"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"github.com/pook/stripeonce/operations"
)

// ask returns the path of the page that asks whether to do something with the task's group.
func (t *task) ask(do string) template.URL {
	asked := *t
	asked.Do = do
	return template.URL(newRunPath + "?" + asked.Values().Encode()) //nolint:gosec // encoded here
}

// ofGroup reports whether the task is about a group of failures.
func (t *task) ofGroup() bool { return t.Do == doReplay || t.Do == doDismiss }

// failures is the task's filter of failures.
func (t *task) failures() operations.FailureFilter {
	return operations.FailureFilter{Group: t.Group, State: t.State, Account: t.Account, Until: t.Until}
}

// arguments are those of the record of its run.
func (t *task) arguments() map[string]any {
	return map[string]any{"group": t.Group, "state": t.State, "account": t.Account}
}

// states are those of the events that a replay applies, in this order.
func (t *task) states() []operations.FailureState {
	if t.State != "" {
		return []operations.FailureState{t.State}
	}
	return []operations.FailureState{operations.StateFailing, operations.StateParked}
}

// groupData is what the page shows that asks whether to replay or dismiss a group.
type groupData struct {
	*task
	operations.FailureGroup
	Dismisses bool
	Elsewhere int  // how many of its events failed in other receivers, and are left out
	Cut       bool // there may be older events that are not counted
	Receiver  string
	Handlers  []string
	NoKey     bool
	Limit     string
	Cancel    template.URL
}

// confirmGroup asks whether to replay or dismiss the events of a group. Only what has failed until now is dismissed: what fails after
// the page was shown is left.
func (c *Console) confirmGroup(r *request, t *task) (*page, error) {
	if t.Until.IsZero() {
		now, err := c.queries.ServerClock(r.ctx, c.pool)
		if err != nil {
			return nil, err
		}
		t.Until = now
	}
	found, err := c.groupOf(r.ctx, t)
	if err != nil {
		return nil, err
	}
	f := failureFilter{State: string(t.State), Account: t.Account}
	d := &groupData{
		task: t, FailureGroup: found.FailureGroup, Elsewhere: found.Count - found.events, Dismisses: t.Do == doDismiss, Cut: found.cut, Receiver: c.receiver.Name(), Handlers: c.receiver.Types(), NoKey: c.config.APIKey == "",
		Limit: inWords(c.config.RunTimeout), Cancel: f.with(t.Group, false),
	}
	return &page{Title: t.name() + " " + plural(int64(found.events), "event"), Template: "group", Data: d}, nil
}

// name is the verb of a task of a group.
func (t *task) name() string {
	if t.Do == doDismiss {
		return "Dismiss"
	}
	return "Replay"
}

// foundGroup is the group of a task.
type foundGroup struct {
	operations.FailureGroup
	events int  // how many of its events the task is about: a replay leaves out those that failed in another receiver
	cut    bool // there may be older events that are not counted
}

// groupOf returns the group of a task. It is an unavailableError if the task is about no event of it.
func (c *Console) groupOf(ctx context.Context, t *task) (*foundGroup, error) {
	list, err := c.operator.FailureGroups(ctx, t.failures())
	switch {
	case err != nil:
		return nil, err
	case len(list.Groups) == 0:
		return nil, &unavailableError{why: "No event of this group is left: the events took effect or were dismissed, or fail for another reason now."}
	}
	found := &foundGroup{list.Groups[0], list.Groups[0].Count, list.Truncated}
	if t.Do == doReplay { // what another program's handlers do, this process cannot do
		found.events = found.Receivers[c.receiver.Name()]
	}
	if found.events == 0 {
		return nil, &unavailableError{why: "The events of this group failed in another receiver, whose handlers this process does not have: " +
			strings.Join(slices.Sorted(maps.Keys(found.Receivers)), ", ") + ". Replay them in its console, or with the command replay --to."}
	}
	return found, nil
}

// replayedGroup counts what the replay of a group did.
type replayedGroup struct {
	Tried  int `json:"tried"`
	Failed int `json:"failed"` // of these
}

// prepareGroup records the replay or the dismissal of a group, and returns the function that does it.
func (c *Console) prepareGroup(ctx context.Context, operator *operations.Operator, t *task, reason string) (*operations.RunRecording, func(context.Context) error, error) {
	found, err := c.groupOf(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	if t.Do == doDismiss {
		run := operator.StartRun(operations.RunDismiss, t.arguments())
		run.Progress(ctx, operations.DismissGroupResult{}, 0)
		return run, func(ctx context.Context) error {
			_, err := operator.DismissGroup(ctx, t.failures(), operations.DismissGroupOptions{Reason: reason, Run: run, Total: found.events})
			return err
		}, nil
	}
	run := operator.StartRun(operations.RunReplay, t.arguments())
	run.Progress(ctx, replayedGroup{}, 0)
	return run, func(ctx context.Context) error { return c.replayGroup(ctx, operator, t, run, found.events) }, nil
}

// replayGroup replays the events of a group, and records the run.
func (c *Console) replayGroup(ctx context.Context, operator *operations.Operator, t *task, run *operations.RunRecording, total int) (err error) {
	var sum replayedGroup
	each := func(a operations.EventResult) {
		sum.Tried++
		if a.Err != nil {
			sum.Failed++
			c.config.Logger.WarnContext(ctx, "console: replay failed", "event_id", a.EventID, "run_id", run.ID(), "error", a.Err)
		}
		run.Progress(ctx, sum, min(float64(sum.Tried)/float64(total), 1))
	}
	for _, state := range t.states() {
		if err = operator.ReplayAll(ctx, operations.ReplayFilter{Group: t.Group, Account: t.Account, State: state, Receiver: c.receiver.Name()}, each); err != nil {
			break
		}
	}
	run.Finish(ctx, sum, err)
	if err == nil && sum.Failed > 0 {
		return fmt.Errorf("%d of %d events failed again", sum.Failed, sum.Tried)
	}
	return err
}
