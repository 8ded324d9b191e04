package console

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

const (
	objectPath   = "/objects/{type}/{id}"
	customerPath = "/customers/{id}"
	// maxAccounts is how many accounts the page of objects offers. Others are named in the field.
	maxAccounts = 50
	// maxObjects is how many objects of a type the page of objects counts.
	maxObjects = 1000
	// maxSearched is how many objects a listing looks at, where a filter has no index.
	maxSearched = 20_000
)

// ever is later than any time of Stripe's.
var ever = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// place is an account and a mode, which are a part of an object's key.
type place struct {
	Account  string // empty: the receiver's own
	Livemode bool
}

func (p place) values() url.Values {
	values := url.Values{"livemode": {strconv.FormatBool(p.Livemode)}}
	if p.Account != "" {
		values.Set("account", p.Account)
	}
	return values
}

// object returns the path of an object's page.
func (p place) object(kind, id string) template.URL {
	path := "/objects/" + url.PathEscape(kind) + "/" + url.PathEscape(id)
	if kind == "customer" {
		path = "/customers/" + url.PathEscape(id)
	}
	return template.URL(path + "?" + p.values().Encode()) //nolint:gosec // encoded here
}

// list returns the path of the objects of a type, and of a customer if it is not empty.
func (p place) list(kind, customer string) template.URL {
	values := p.values()
	values.Set("type", kind)
	if customer != "" {
		values.Set("customer", customer)
	}
	return template.URL("/objects?" + values.Encode()) //nolint:gosec // encoded here
}

func placeOf(o *db.StripeObject) place { return place{o.AccountID, o.Livemode} }

// kind is a type of which the account has objects.
type kind struct {
	place
	Type  string
	Count string // at most maxObjects
	Path  template.URL
}

type objectsData struct {
	Filter struct {
		place
		Type, Customer, Status, ID string
		Deleted                    bool
	}
	Accounts []string // that have objects; empty if nothing is mirrored
	Kinds    []kind   // of the account
	Types    []string // of the account, in any mode
	Table    *table   // nil: the page lists the kinds
	Searched string   // how many objects the page looked at, if there are more
	Next     template.URL
}

func (c *Console) objects(r *request) (*page, error) {
	d := &objectsData{}
	p := &page{Title: "Objects", Template: "objects", Data: d}
	f := &d.Filter
	f.Type, f.Customer, f.Status, f.ID, f.Deleted = trimmed(r, "type"), trimmed(r, "customer"), trimmed(r, "status"), trimmed(r, "id"), r.param("deleted") == "only"
	f.Account = trimmed(r, "account")
	switch {
	case f.Type == "" && f.ID != "":
		p.Location = template.URL("/search?" + url.Values{"find": {f.ID}}.Encode()) //nolint:gosec // encoded here
		return p, nil
	case f.Type == "" && f.Customer != "":
		p.Location = template.URL("/customers/" + url.PathEscape(f.Customer)) //nolint:gosec // encoded here
		return p, nil
	}
	var err error
	if d.Accounts, err = c.queries.ConsoleAccountList(r.ctx, c.pool, maxAccounts); err != nil {
		return nil, err
	}
	if len(d.Accounts) == 0 {
		return p, c.checkSeesObjects(r.ctx)
	}
	if f.Account == "" {
		f.Account = d.Accounts[0] // the receiver's own, if it has objects
	}
	if err := c.kinds(r, d); err != nil || f.Type == "" {
		return p, err
	}
	return p, c.listObjects(r, d)
}

// checkSeesObjects returns an error if row level security hides the table from the role. It would look empty otherwise.
func (c *Console) checkSeesObjects(ctx context.Context) error {
	missing, err := c.queries.ServerMissingPrivileges(ctx, c.pool, []string{"stripe_objects"}, []string{"SELECT"})
	for _, m := range missing {
		if m.ByPolicy {
			return fmt.Errorf("%w: no policy allows %s on %s", webhooks.ErrRowSecurity, m.Privilege, m.TableName)
		}
	}
	return err
}

// kinds reads the types of the account, and chooses the mode: live mode, unless there are only objects of test mode.
func (c *Console) kinds(r *request, d *objectsData) error {
	f := &d.Filter
	most := int32(maxObjects + 1)
	if f.Type != "" {
		most = 0 // the page lists objects, and shows no counts
	}
	rows, err := c.queries.ConsoleTypeList(r.ctx, c.pool, f.Account, most)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, row := range rows {
		one := kind{place: place{f.Account, row.Livemode}, Type: row.ObjectType, Count: count(row.Objects)}
		if row.Objects > maxObjects {
			one.Count = count(maxObjects) + "+"
		}
		one.Path = one.list(one.Type, "")
		d.Kinds = append(d.Kinds, one)
		if !seen[one.Type] {
			d.Types = append(d.Types, one.Type)
		}
		seen[one.Type] = true
		f.Livemode = f.Livemode || row.Livemode && (f.Type == "" || f.Type == row.ObjectType)
	}
	if asked := r.param("livemode"); asked != "" {
		f.Livemode = asked == "true"
	}
	return nil
}

// listObjects lists a page of one type.
func (c *Console) listObjects(r *request, d *objectsData) error {
	f := &d.Filter
	if f.ID != "" {
		row, err := c.stored(r.ctx, f.place, f.Type, f.ID)
		if err == nil {
			d.Table = c.objectTable([]db.StripeObject{*row}, objectColumns{customer: true, updated: true})
		} else if errors.Is(err, errNotFound) {
			d.Table, err = &table{}, nil
		}
		return err
	}
	rows, end, err := c.pageOfObjects(r, d)
	if err != nil {
		return err
	}
	if len(rows) > pageRows {
		rows = rows[:pageRows]
		end = positionOf(rows[pageRows-1].StripeCreatedAt, rows[pageRows-1].ID)
	} else if end != "" {
		d.Searched = count(maxSearched)
	}
	if end != "" {
		d.Next = following(r, "/objects", end)
	}
	d.Table = c.objectTable(rows, objectColumns{customer: true, updated: true})
	return nil
}

// undated begins a position among the objects without a time of creation, which come last.
const undated = "undated "

// positionOf returns where the next page begins.
func positionOf(created *time.Time, id string) string {
	if created == nil {
		return undated + id
	}
	return created.UTC().Format(time.RFC3339Nano) + " " + id
}

// pageOfObjects returns a row more than a page has, if there are as many. end is the last position that it looked at, if it has
// stopped before the last object.
func (c *Console) pageOfObjects(r *request, d *objectsData) (rows []db.StripeObject, end string, err error) {
	f, after := &d.Filter, ""
	var before *time.Time
	at, id, found := strings.Cut(r.param("before"), " ")
	if undatedOnly := found && at+" " == undated; undatedOnly {
		after = id
	} else {
		if found {
			parsed, err := time.Parse(time.RFC3339Nano, at)
			if err != nil {
				return nil, "", errNotFound
			}
			before = &parsed
		}
		if rows, end, err = c.datedObjects(r.ctx, d, before, id); err != nil || end != "" || len(rows) > pageRows {
			return rows, end, err
		}
	}
	more, err := c.queries.ObjectListUndated(r.ctx, c.pool, db.ObjectListUndatedParams{
		Livemodes: []bool{f.Livemode}, AccountID: f.Account, ObjectType: f.Type, AfterID: after, CustomerID: nilIfEmpty(f.Customer),
		Status: nilIfEmpty(f.Status), Deleted: f.Deleted, MaxRows: int32(pageRows + 1 - len(rows)),
	})
	return append(rows, more...), "", err
}

// datedObjects lists objects with a time of creation, the newest first.
func (c *Console) datedObjects(ctx context.Context, d *objectsData, before *time.Time, id string) (rows []db.StripeObject, end string, err error) {
	f := &d.Filter
	if f.Customer != "" {
		rows, err = c.queries.ObjectListByCustomer(ctx, c.pool, db.ObjectListByCustomerParams{
			CustomerID: f.Customer, ObjectType: f.Type, AccountID: f.Account, Livemodes: []bool{f.Livemode}, CreatedFrom: &time.Time{},
			CreatedBefore: &ever, Before: before, BeforeID: id, Status: nilIfEmpty(f.Status), Deleted: f.Deleted, MaxRows: pageRows + 1,
		})
		return rows, "", err
	}
	rows, err = c.queries.ConsoleObjectList(ctx, c.pool, db.ConsoleObjectListParams{
		AccountID: f.Account, Livemode: f.Livemode, ObjectType: f.Type, Before: before, BeforeID: id, MaxLookedAt: maxSearched,
		Status: nilIfEmpty(f.Status), Deleted: f.Deleted, MaxRows: pageRows + 1,
	})
	if err != nil || len(rows) > pageRows {
		return rows, "", err
	}
	last, err := c.queries.ConsoleObjectListEnd(ctx, c.pool, db.ConsoleObjectListEndParams{
		AccountID: f.Account, Livemode: f.Livemode, ObjectType: f.Type, Before: before, BeforeID: id, Skipped: maxSearched - 1,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return rows, "", nil
	}
	return rows, positionOf(last.StripeCreatedAt, last.ID), err
}

// stored returns an object's row, or errNotFound.
func (c *Console) stored(ctx context.Context, at place, kind, id string) (*db.StripeObject, error) {
	row, err := c.queries.ObjectGet(ctx, c.pool, db.ObjectGetParams{AccountID: at.Account, Livemode: at.Livemode, ObjectType: kind, ID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNotFound
	}
	return &row, err
}

type objectData struct {
	*db.StripeObject
	Pills                  []pill
	Summary                string
	List                   template.URL // of the objects of this type
	Customer, Subscription template.URL
	Dashboard              string
	Actions                actions
	JSON                   string
	Hidden                 bool
	Events                 []operations.Event
	More                   bool
	Failing                []db.StripeWebhookFailureListByObjectRow
}

func (c *Console) object(r *request) (*page, error) {
	row, err := c.asked(r, r.PathValue("type"), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	at := placeOf(row)
	d := &objectData{StripeObject: row, Pills: pillsOf(row), List: at.list(row.ObjectType, ""), Hidden: c.config.HidePayloads, Dashboard: at.dashboard(row.ObjectType, row.ID)}
	if row.CustomerID != nil {
		d.Customer = at.object("customer", *row.CustomerID)
	}
	if row.SubscriptionID != nil {
		d.Subscription = template.URL("/subscriptions/" + url.PathEscape(*row.SubscriptionID)) //nolint:gosec // encoded here
	}
	d.Actions = c.comparisons(task{place: at, Type: row.ObjectType, ID: row.ID})
	if !d.Hidden {
		d.JSON, d.Summary = pretty(row.Object), summary(row.Object)
	}
	d.Events, err = c.operator.Events(r.ctx, operations.EventFilter{ObjectID: row.ID, Account: row.AccountID, Limit: pageRows + 1})
	if err != nil {
		return nil, err
	}
	if d.More = len(d.Events) > pageRows; d.More {
		d.Events = d.Events[:pageRows]
	}
	d.Failing, err = c.queries.StripeWebhookFailureListByObject(r.ctx, c.pool, row.ID)
	return &page{Title: row.ID, Template: "object", Data: d}, err
}

// asked returns the object that a page is about. Without a mode it is that of live mode, if there are two. Without an account it
// is that of the receiver's own, or else of the only account that has it.
func (c *Console) asked(r *request, kind, id string) (*db.StripeObject, error) {
	modes := []bool{true, false}
	if asked := r.param("livemode"); asked != "" {
		modes = []bool{asked == "true"}
	}
	for _, livemode := range modes {
		row, err := c.stored(r.ctx, place{r.param("account"), livemode}, kind, id)
		if !errors.Is(err, errNotFound) {
			return row, err
		}
	}
	if r.param("account") != "" {
		return nil, errNotFound
	}
	found, err := c.findObjects(r.ctx, id)
	if err != nil {
		return nil, err
	}
	for _, key := range found {
		if key.ObjectType == kind && slices.Contains(modes, key.Livemode) {
			return c.stored(r.ctx, place{key.AccountID, key.Livemode}, kind, id)
		}
	}
	return nil, errNotFound
}

func nilIfEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
