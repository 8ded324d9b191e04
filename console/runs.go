package console

import (
	"cmp"

	"github.com/pook/stripeonce/operations"
)

// maxRuns is how many runs the page shows.
const maxRuns = 100

// runs shows the newest runs of the operator's commands.
func (c *Console) runs(r *request) (*page, error) {
	list, err := c.operator.Runs(r.ctx, operations.RunFilter{Limit: maxRuns})
	if err != nil {
		return nil, err
	}
	t := &table{Columns: []string{"Run", "State", "Started", "Arguments", "Counts", "Who", "Error"}}
	for i := range list {
		run := &list[i]
		t.Rows = append(t.Rows, []cell{
			{Text: string(run.Kind)}, {Pills: []pill{stateOf(run)}}, {At: &run.StartedAt}, {Text: run.ArgumentsText()},
			{Text: run.CountsText()}, {Text: whoRan(run)}, {Text: run.Error},
		})
	}
	return &page{Title: "Runs", Template: "runs", Data: t}, nil
}

// stateOf says how a run stands.
func stateOf(run *operations.Run) pill {
	tones := map[operations.RunState]string{operations.RunFailed: "bad", operations.RunFinished: "good"}
	state := run.State()
	return pill{string(state), cmp.Or(tones[state], "warn")}
}

// whoRan names the operator, the host and the reason, as far as they are known.
func whoRan(run *operations.Run) string {
	who := cmp.Or(run.Operator, "somebody")
	if run.Host != "" {
		who += " on " + run.Host
	}
	if run.Reason != "" {
		who += ": " + run.Reason
	}
	return who
}
