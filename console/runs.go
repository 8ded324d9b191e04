package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/pook/stripeonce/operations"
)

const (
	// refreshSeconds is how often a page of runs refreshes itself while one of them is in progress.
	refreshSeconds = 3
	// maxValues is how many elements of an argument, such as events, a run's page shows.
	maxValues = 50
	// maxValue is how many bytes of a value that differs it shows.
	maxValue = 1000
)

type runsData struct {
	Kind      operations.RunKind // the filter
	Kinds     []operations.RunKind
	Table     *table
	Next      template.URL // of the next page, empty if there is none
	Reconcile actions
}

// runs lists the runs of the operator's commands and of the console.
func (c *Console) runs(r *request) (*page, error) {
	d := &runsData{Kind: operations.RunKind(trimmed(r, "kind")), Kinds: operations.RunKinds(), Table: &table{}, Reconcile: c.reconciliations()}
	if d.Kind != "" && !slices.Contains(d.Kinds, d.Kind) {
		return nil, errNotFound
	}
	list, err := c.operator.Runs(r.ctx, operations.RunFilter{Kind: d.Kind, Before: r.param("before"), Limit: pageRows + 1})
	if err != nil {
		return nil, err
	}
	if len(list) > pageRows {
		list = list[:pageRows]
		d.Next = following(r, "/runs", list[pageRows-1].ID)
	}
	p := &page{Title: "Runs", Template: "runs", Data: d}
	d.Table.Columns = []string{"Run", "Kind", "State", "Started", "Arguments", "Counts", "Who", "Error"}
	for i := range list {
		run := &list[i]
		if run.State() == operations.RunRunning {
			p.Refresh = refreshSeconds
		}
		d.Table.Rows = append(d.Table.Rows, []cell{
			{ID: run.ID, Path: runPath(run.ID)}, {Text: string(run.Kind)}, {Pills: []pill{stateOf(run)}}, {At: &run.StartedAt},
			{Text: cut(run.ArgumentsText())}, {Text: cut(run.CountsText())}, {Text: whoRan(run)}, {Text: run.Error},
		})
	}
	return p, nil
}

// runPath returns the path of a run's page.
func runPath(id string) template.URL {
	return template.URL("/runs/" + url.PathEscape(id)) //nolint:gosec // encoded here
}

// stateOf says how a run stands, and how much of it is done if that is known.
func stateOf(run *operations.Run) pill {
	state := run.State()
	p := pill{string(state), "warn"}
	switch {
	case state == operations.RunFailed:
		p.Tone = "bad"
	case state == operations.RunFinished:
		p.Tone = "good"
	case run.Share != nil:
		p.Text = fmt.Sprintf("%s %d %%", state, percent(run))
	}
	return p
}

func percent(run *operations.Run) int { return int(*run.Share * 100) }

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

type runData struct {
	*operations.Run
	State       pill
	Running     bool
	Percent     int    // of an unfinished run; -1: not known
	Took        string // so far
	Arguments   []fact
	Counts      []fact
	Differences []difference // those of Differs with their values, if this process has compared them
	Hidden      bool         // the values
}

// fact is a member of a run's arguments or counts.
type fact struct {
	Name   string
	Values []piece // one with an ID links to the search
	More   int     // values that are not shown
}

// run shows one run.
func (c *Console) run(r *request) (*page, error) {
	run, err := c.operator.Run(r.ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	d := &runData{
		Run: run, State: stateOf(run), Running: run.State() == operations.RunRunning, Percent: -1, Hidden: c.config.HidePayloads,
		Arguments: factsOf(run.Arguments), Counts: factsOf(run.Counts),
	}
	end := run.UpdatedAt
	switch {
	case run.FinishedAt != nil:
		end = *run.FinishedAt
	case run.Share != nil:
		d.Percent = percent(run)
	}
	d.Took = seconds(end.Sub(run.StartedAt).Seconds())
	d.Counts = slices.DeleteFunc(d.Counts, func(f fact) bool { return f.Name == "differs" })
	if !d.Hidden {
		d.Differences = c.work.found(run.ID)
	}
	p := &page{Title: run.ID, Template: "run", Data: d}
	if d.Running {
		p.Refresh = refreshSeconds
	}
	return p, nil
}

// shown returns a value of a difference as JSON, cut to maxValue.
func shown(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	if len(text) > maxValue {
		return strings.ToValidUTF8(string(text[:maxValue]), "") + "…"
	}
	return string(text)
}

// factsOf returns the members of a JSON object that are not empty.
func factsOf(object json.RawMessage) (facts []fact) {
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.UseNumber()
	if decoder.Decode(&members) != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		f := fact{Name: strings.ReplaceAll(name, "_", " ")}
		values, isList := members[name].([]any)
		if !isList {
			values = []any{members[name]}
		}
		for _, value := range values {
			text := fmt.Sprint(value)
			switch {
			case value == nil || text == "":
			case len(f.Values) == maxValues:
				f.More++
			case stripeID.MatchString(`"` + text + `"`):
				f.Values = append(f.Values, piece{text, text})
			default:
				f.Values = append(f.Values, piece{Text: text})
			}
		}
		if len(f.Values) > 0 {
			facts = append(facts, f)
		}
	}
	return facts
}
