package console

import (
	"html/template"
	"net/url"
	"slices"
	"strings"

	"github.com/pook/stripeonce/internal/operationid"
	"github.com/pook/stripeonce/operations"
)

// shownIDs is how many events of a group are shown at once. The others that it names can be unfolded.
const shownIDs = 5

// failureFilter is the form of the page of failures.
type failureFilter struct {
	Type, State, Account string
	Group                string // the key of a group: its events are listed
	List                 bool   // the events are listed, and not grouped
}

// groupedStates are the states that the form offers.
var groupedStates = []string{string(operations.StateFailing), string(operations.StateParked)}

// group is a group of failures with what can be done with it.
type group struct {
	operations.FailureGroup
	First, Rest []string     // its events, the newest first
	More        int          // events that are in neither
	Last        string       // the last error as it was, if the group's has placeholders
	Path        template.URL // of all of its events
	Replay      template.URL // asks whether to
	Dismiss     template.URL
}

type failuresData struct {
	Filter   failureFilter
	States   []string
	Narrowed bool // by the form
	Groups   []group
	Events   int // in the groups
	More     int // further groups
	Cut      bool
	MaxLook  int64
	Of       *group // the page lists the events of this group
	Failures []operations.Failure
	Next     template.URL // of the next page, empty if there is none
	Other    template.URL // the list instead of the groups, or the groups instead of the list
}

func (c *Console) failures(r *request) (*page, error) {
	d := &failuresData{States: groupedStates, MaxLook: operations.MaxFailuresScanned}
	f := &d.Filter
	f.Type, f.State, f.Account, f.Group, f.List = trimmed(r, "type"), trimmed(r, "state"), trimmed(r, "account"), trimmed(r, "group"), r.param("view") == viewList
	if f.State != "" && !slices.Contains(groupedStates, f.State) || f.Group != "" && !operationid.IsGroupKey(f.Group) {
		return nil, errNotFound
	}
	d.Narrowed = f.Type+f.State+f.Account != ""
	p := &page{Title: "Failures", Template: "failures", Data: d}
	if f.Group != "" || !f.List {
		if err := c.groups(r, d); err != nil {
			return nil, err
		}
	}
	switch {
	case f.Group != "":
		if len(d.Groups) > 0 {
			d.Of = &d.Groups[0]
		}
		d.Other = f.with("", false)
	case f.List:
		d.Other = f.with("", false)
	default:
		d.Other = f.with("", true)
		return p, nil
	}
	return p, c.listFailures(r, d)
}

// viewList is the value of "view" that lists the events.
const viewList = "list"

// with returns the path of the page with the same filter, of a group or as a list.
func (f *failureFilter) with(group string, list bool) template.URL {
	values := url.Values{}
	for name, value := range map[string]string{"type": f.Type, "state": f.State, "account": f.Account, "group": group} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if list {
		values.Set("view", viewList)
	}
	path := "/failures"
	if len(values) > 0 {
		path += "?" + values.Encode()
	}
	return template.URL(path) //nolint:gosec // encoded here
}

func (f *failureFilter) operations(group string, limit int) operations.FailureFilter {
	return operations.FailureFilter{
		Type: f.Type, State: operations.FailureState(f.State), Account: f.Account, Group: group, Limit: limit, MaxScanned: operations.MaxFailuresScanned,
	}
}

// groups reads the groups that the filter selects.
func (c *Console) groups(r *request, d *failuresData) error {
	f := &d.Filter
	list, err := c.operator.FailureGroups(r.ctx, f.operations(f.Group, pageRows))
	if err != nil {
		return err
	}
	d.More, d.Cut = list.More, list.Truncated
	for i := range list.Groups {
		g := group{FailureGroup: list.Groups[i], Path: f.with(list.Groups[i].Key, false)}
		first := min(len(g.EventIDs), shownIDs)
		g.First, g.Rest, g.More = g.EventIDs[:first], g.EventIDs[first:], g.Count-len(g.EventIDs)
		if last := strings.TrimPrefix(g.LastError, "handler of "+g.EventType+": "); last != g.Error {
			g.Last = last
		}
		t := task{place: place{Account: f.Account}, Group: g.Key, State: operations.FailureState(f.State)}
		g.Replay, g.Dismiss = t.ask(doReplay), t.ask(doDismiss)
		d.Groups, d.Events = append(d.Groups, g), d.Events+g.Count
	}
	return nil
}

// listFailures reads a page of the events that the filter selects.
func (c *Console) listFailures(r *request, d *failuresData) error {
	filter := d.Filter.operations(d.Filter.Group, pageRows+1)
	filter.Before = r.param("before")
	list, err := c.operator.Failures(r.ctx, filter)
	if err != nil {
		return err
	}
	d.Failures = list
	if len(list) > pageRows {
		d.Failures = list[:pageRows]
		d.Next = following(r, "/failures", list[pageRows-1].EventID)
	}
	return nil
}
