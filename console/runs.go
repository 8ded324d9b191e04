package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/operations"
)

const (
	// maxRuns is how many runs the page shows.
	maxRuns = 100
	// quietRun is how long ago a run's last progress may be until it counts as interrupted.
	quietRun = 2 * time.Minute
)

// runs shows the newest runs of the operator's commands.
func (c *Console) runs(r *request) (*page, error) {
	list, err := c.operator.Runs(r.ctx, maxRuns)
	if err != nil {
		return nil, err
	}
	t := &table{Columns: []string{"Run", "State", "Started", "Arguments", "Counts", "Who", "Error"}}
	for i := range list {
		run := &list[i]
		t.Rows = append(t.Rows, []cell{
			{Text: string(run.Kind)}, {Pills: []pill{stateOf(run)}}, {At: &run.StartedAt}, {Text: membersText(run.Arguments)},
			{Text: membersText(run.Counts)}, {Text: whoRan(run)}, {Text: run.Error},
		})
	}
	return &page{Title: "Runs", Template: "runs", Data: t}, nil
}

// stateOf says how a run stands.
func stateOf(run *operations.Run) pill {
	switch {
	case run.FinishedAt != nil && run.Error != "":
		return pill{"failed", "bad"}
	case run.FinishedAt != nil:
		return pill{"finished", "good"}
	case time.Since(run.UpdatedAt) > quietRun:
		return pill{"interrupted", "warn"}
	}
	return pill{"running", "warn"}
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

// membersText writes a JSON object's members in a line, without the empty ones.
func membersText(object json.RawMessage) string {
	var members map[string]any
	if json.Unmarshal(object, &members) != nil {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch value := members[name].(type) {
		case nil, string:
			if value != nil && value != "" {
				parts = append(parts, fmt.Sprintf("%s %v", name, value))
			}
		case []any:
			if len(value) > 0 {
				parts = append(parts, name+" "+strings.Trim(fmt.Sprint(value), "[]"))
			}
		default:
			parts = append(parts, fmt.Sprintf("%s %v", name, value))
		}
	}
	return strings.Join(parts, ", ")
}
