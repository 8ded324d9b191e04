package console

import (
	"context"
	"html/template"
	"net/url"
	"time"

	"github.com/pook/stripeonce/db"
)

const (
	// changedSpan is the time whose changes the overview shows.
	changedSpan = time.Hour
	// maxChanged is how many objects of each kind it names.
	maxChanged = 5
)

// changedKind are the objects of one kind that events changed.
type changedKind struct {
	Kind    string // what the types of its events begin with, such as invoice
	Events  int64
	Objects int64
	Path    template.URL // of its events
	Most    []changedObject
	More    int64 // objects that are not in Most
}

type changedObject struct {
	ID     string // empty: the event's object has none
	Path   template.URL
	Events int64
}

// changed returns what events changed in the last hour.
func (c *Console) changed(ctx context.Context, now time.Time) (kinds []changedKind, err error) {
	rows, err := c.queries.ConsoleChangedList(ctx, c.pool, db.ConsoleChangedListParams{
		Since: now.Add(-changedSpan), MaxLookedAt: maxCounted, MaxEach: maxChanged,
	})
	for i := range rows {
		row := &rows[i]
		if len(kinds) == 0 || kinds[len(kinds)-1].Kind != row.Kind {
			kinds = append(kinds, changedKind{Kind: row.Kind, Events: row.KindEvents, Objects: row.KindObjects, More: row.KindObjects, Path: eventsOfKind(row.Kind)})
		}
		kind := &kinds[len(kinds)-1]
		kind.Most = append(kind.Most, changedObject{row.ObjectID, pathOf(place{row.AccountID, row.Livemode}, row.ObjectID), row.Events})
		kind.More--
	}
	return kinds, err
}

// eventsOfKind returns the path of the events of the last hour whose types begin with a kind.
func eventsOfKind(kind string) template.URL {
	values := url.Values{"type": {kind + ".*"}, "outcome": {"processed"}, "span": {spans[0].Name}}
	return template.URL("/events?" + values.Encode()) //nolint:gosec // encoded here
}

// pathOf returns the path of the page of an object that may be of any type. The search leads to one that is mirrored, or else to its
// events.
func pathOf(at place, id string) template.URL {
	switch {
	case id == "":
		return ""
	case isSubscription(&id):
		return template.URL("/subscriptions/" + url.PathEscape(id)) //nolint:gosec // encoded here
	case isCustomer(&id):
		return at.object("customer", id)
	}
	return template.URL("/search?" + url.Values{"find": {id}}.Encode()) //nolint:gosec // encoded here
}
