package console

import (
	"context"
	"errors"
	"html/template"
	"net/url"
	"strings"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
)

const (
	// maxKinds is in how many accounts, modes and types the search looks for an id: one index lookup each.
	maxKinds = 5000
	maxFound = 50
)

// hit is something that has the id that was searched for.
type hit struct {
	What  string
	Place *place // nil: the id is unique over all accounts and modes
	Path  template.URL
}

type searchData struct {
	Query string
	Hits  []hit
}

// search leads to the page of an id of any kind. If several objects have it, it lists them.
func (c *Console) search(r *request) (*page, error) {
	d := &searchData{Query: trimmed(r, "find")}
	p := &page{Title: "Search", Template: "search", Data: d}
	if d.Query == "" {
		return p, nil
	}
	var err error
	for _, in := range []func(context.Context, string) ([]hit, error){c.inRuns, c.inLedger, c.inSubscriptions, c.inObjects, c.inCustomers, c.inObjectIDs} {
		if d.Hits, err = in(r.ctx, d.Query); err != nil || len(d.Hits) > 0 {
			break
		}
	}
	if len(d.Hits) == 1 {
		p.Location = d.Hits[0].Path
	}
	return p, err
}

// inRuns finds a run.
func (c *Console) inRuns(ctx context.Context, id string) ([]hit, error) {
	if !strings.HasPrefix(id, "run_") {
		return nil, nil
	}
	_, err := c.operator.Run(ctx, id)
	if errors.Is(err, operations.ErrNoRun) {
		return nil, nil
	}
	return []hit{{What: "run", Path: runPath(id)}}, err
}

// inLedger finds an event, also one that has only failed.
func (c *Console) inLedger(ctx context.Context, id string) ([]hit, error) {
	_, err := c.operator.EventDetail(ctx, id)
	if errors.Is(err, operations.ErrNotFound) {
		return nil, nil
	}
	return []hit{{What: "event", Path: template.URL("/events/" + url.PathEscape(id))}}, err //nolint:gosec // encoded here
}

func (c *Console) inSubscriptions(ctx context.Context, id string) ([]hit, error) {
	_, err := c.reader.Get(ctx, id)
	if errors.Is(err, subscriptions.ErrNotFound) {
		return nil, nil
	}
	return []hit{{What: "subscription", Path: template.URL("/subscriptions/" + url.PathEscape(id))}}, err //nolint:gosec // encoded here
}

// inObjects finds mirrored objects. A database without the table has none.
func (c *Console) inObjects(ctx context.Context, id string) (hits []hit, err error) {
	found, err := c.findObjects(ctx, id)
	if fault.LacksMigration(err) {
		return nil, nil
	}
	for _, key := range found {
		if key.ObjectType == mirror.Entitlements[0] { // its id is the customer's, whose page shows it
			continue
		}
		at := place{key.AccountID, key.Livemode}
		hits = append(hits, hit{What: key.ObjectType, Place: &at, Path: at.object(key.ObjectType, key.ID)})
	}
	return hits, err
}

// inCustomers finds a customer of whom only subscriptions or other objects are stored.
func (c *Console) inCustomers(ctx context.Context, id string) (hits []hit, err error) {
	places, err := c.placesOf(ctx, id)
	for _, at := range places {
		hits = append(hits, hit{What: "customer", Place: &at, Path: at.object("customer", id)})
	}
	return hits, err
}

// inObjectIDs finds the events of an object that is not mirrored.
func (c *Console) inObjectIDs(ctx context.Context, id string) ([]hit, error) {
	events, err := c.operator.Events(ctx, operations.EventFilter{ObjectID: id, Limit: 1})
	if err != nil || len(events) == 0 {
		return nil, err
	}
	return []hit{{What: "events", Path: template.URL("/events?" + url.Values{"object": {id}}.Encode())}}, nil //nolint:gosec // encoded here
}

// findObjects returns the keys of the objects of an id. If there are more accounts than it can look at, the ledger may tell the
// object's.
func (c *Console) findObjects(ctx context.Context, id string) ([]db.ConsoleObjectFindRow, error) {
	found, err := c.queries.ConsoleObjectFind(ctx, c.pool, db.ConsoleObjectFindParams{ID: id, MaxKinds: maxKinds, MaxRows: maxFound})
	if err != nil || len(found) > 0 {
		return found, err
	}
	events, err := c.operator.Events(ctx, operations.EventFilter{ObjectID: id, Limit: 1})
	if err != nil || len(events) == 0 || events[0].AccountID == nil {
		return nil, err
	}
	return c.queries.ConsoleObjectFind(ctx, c.pool, db.ConsoleObjectFindParams{
		FromAccount: *events[0].AccountID, ID: id, MaxKinds: maxFound, MaxRows: maxFound,
	})
}
