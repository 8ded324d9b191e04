package console

import (
	"context"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/entitlements"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
)

const (
	// customerRows is how many subscriptions, and objects of each type, a customer's page shows.
	customerRows = 10
	// maxPaymentObjects is among how many refunds, and disputes, those of a customer's payments are looked for.
	maxPaymentObjects = 2000
)

// customer is what a customer's page shows.
type customer struct {
	place
	ID         string
	Elsewhere  []hit            // the same id in other modes and accounts
	Row        *db.StripeObject // nil if it is not mirrored
	Pills      []pill
	Summary    string
	Dashboard  string
	Actions    actions
	JSON       string
	Hidden     bool
	Unmirrored bool // the database has no table of objects
	Sections   []*section
	Events     []operations.Event
	Traced     int  // of how many objects
	Cut        bool // the customer has further, older ones
	Failing    []db.StripeWebhookFailureListByObjectRow

	objects map[string][]db.StripeObject // by type, the newest first; one more than customerRows if there are more
	ids     []string                     // of what the page shows, whose events it gathers
}

// section is a part of a customer's page.
type section struct {
	ID, Title string
	Table     *table
	None      string // what the page says without rows
	Note      string
	More      []more
}

// more is a link to a whole list.
type more struct {
	Text string
	Path template.URL
}

// customerSections build the parts of a customer's page, in their order. A nil section is left out.
func (c *Console) customerSections() []func(context.Context, *customer) (*section, error) {
	return []func(context.Context, *customer) (*section, error){
		c.subscriptionsOf,
		c.objectsOf("invoices", "Invoices", "invoice", "invoiceitem", "credit_note"),
		c.paymentsOf,
		c.entitlementsOf,
		c.objectsOf("methods", "Payment methods", "payment_method", "setup_intent", "mandate"),
		c.othersOf,
	}
}

// RowPath returns the path of the page about the customer's row.
func (d *customer) RowPath() template.URL {
	return template.URL("/objects/customer/" + url.PathEscape(d.ID) + "?" + d.values().Encode()) //nolint:gosec // encoded here
}

func (c *Console) customer(r *request) (*page, error) {
	d, err := c.knownCustomer(r, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	d.Dashboard, d.Hidden = d.dashboard("customer", d.ID), c.config.HidePayloads
	d.Actions = c.comparisons(task{place: d.place, Customer: d.ID})
	if err := c.readObjectsOf(r.ctx, d); err != nil {
		return nil, err
	}
	for _, build := range c.customerSections() {
		part, err := build(r.ctx, d)
		if err != nil {
			return nil, err
		}
		if part != nil {
			d.Sections = append(d.Sections, part)
		}
	}
	if err := c.eventsOf(r.ctx, d); err != nil {
		return nil, err
	}
	if d.Row == nil && d.Traced == 1 && len(d.Events) == 0 {
		return nil, errNotFound
	}
	d.Failing, err = c.queries.StripeWebhookFailureListByObject(r.ctx, c.pool, d.ID)
	return &page{Title: d.ID, Template: "customer", Data: d}, err
}

// knownCustomer returns the customer in the request's account and mode, which need not have the customer's own row. Where the request
// leaves one of them out, the customer is that of the first place that knows it.
func (c *Console) knownCustomer(r *request, id string) (*customer, error) {
	places, err := c.placesOf(r.ctx, id)
	if err != nil {
		return nil, err
	}
	mode := r.param("livemode")
	chosen := slices.IndexFunc(places, func(at place) bool {
		return (mode == "" || at.Livemode == (mode == "true")) && (!r.URL.Query().Has("account") || at.Account == r.param("account"))
	})
	at := place{r.param("account"), mode == "true"}
	switch {
	case chosen >= 0:
		at = places[chosen]
	case mode == "":
		return nil, errNotFound
	}
	d := &customer{ID: id, place: at, objects: map[string][]db.StripeObject{}, ids: []string{id}}
	for i, at := range places {
		if i != chosen {
			d.Elsewhere = append(d.Elsewhere, hit{What: "customer", Place: &at, Path: at.object("customer", id)})
		}
	}
	return d, nil
}

// placesOf returns the accounts and modes that know a customer. In a database without the table of objects, those of its
// subscriptions.
func (c *Console) placesOf(ctx context.Context, id string) (places []place, err error) {
	keys, err := c.queries.ConsoleCustomerKeyList(ctx, c.pool, id)
	if fault.LacksMigration(err) {
		list, err := c.reader.ListByCustomer(ctx, id)
		for _, s := range list {
			if at := (place{s.AccountID, s.Livemode}); !slices.Contains(places, at) {
				places = append(places, at)
			}
		}
		return places, err
	}
	for _, key := range keys {
		places = append(places, place{key.AccountID, key.Livemode})
	}
	return places, err
}

// readObjectsOf reads the customer's row and the newest objects of each type.
func (c *Console) readObjectsOf(ctx context.Context, d *customer) error {
	rows, err := c.queries.ConsoleCustomerObjectList(ctx, c.pool, db.ConsoleCustomerObjectListParams{
		CustomerID: d.ID, AccountID: d.Account, Livemode: d.Livemode, MaxEach: customerRows + 1,
	})
	if fault.LacksMigration(err) {
		d.Unmirrored = true
		return nil
	}
	if err != nil {
		return err
	}
	for i := range rows {
		if row := &rows[i]; row.ObjectType == "customer" {
			d.Row, d.Pills = row, pillsOf(row)
		} else {
			d.objects[row.ObjectType] = append(d.objects[row.ObjectType], *row)
		}
	}
	if d.Row != nil && !d.Hidden {
		d.JSON, d.Summary = pretty(d.Row.Object), summary(d.Row.Object)
	}
	return nil
}

func (c *Console) subscriptionsOf(ctx context.Context, d *customer) (*section, error) {
	s := &section{ID: "subscriptions", Title: "Subscriptions", None: "No subscriptions."}
	ids, err := c.queries.CustomerSubscriptionIDList(ctx, c.pool, db.CustomerSubscriptionIDListParams{
		CustomerID: d.ID, AccountID: &d.Account, Livemode: &d.Livemode, MaxRows: customerRows + 1,
	})
	if err != nil || len(ids) == 0 {
		return s, err
	}
	if len(ids) > customerRows {
		ids = ids[:customerRows]
		s.More = []more{{"All subscriptions", template.URL("/subscriptions?" + url.Values{"q": {d.ID}}.Encode())}} //nolint:gosec // encoded here
	}
	list, err := c.reader.List(ctx, ids)
	if err != nil {
		return nil, err
	}
	d.ids = append(d.ids, ids...)
	s.Table = subscriptionTable(list)
	return s, nil
}

// maxEntitlements is how many entitlements a customer's page shows.
const maxEntitlements = 100

// entitlementsOf returns the customer's active entitlements.
func (c *Console) entitlementsOf(_ context.Context, d *customer) (*section, error) {
	kind := mirror.Entitlements[0]
	s := &section{ID: "entitlements", Title: "Entitlements", None: "No active entitlements."}
	if d.Unmirrored || len(d.objects[kind]) == 0 {
		s.None = "No mirrored entitlements. Mirror the group entitlements."
		return s, nil
	}
	row := d.objects[kind][0]
	delete(d.objects, kind)
	s.More = []more{{"The summary as Stripe has it", d.object(kind, d.ID)}}
	if !row.ListsComplete {
		s.Note = "Incomplete: the customer may have further ones, or events of one second contradict each other. With an API key, they are fetched from Stripe."
	}
	list, err := entitlements.Decode(row.Object)
	if err != nil || row.Deleted || len(list) == 0 {
		return s, err
	}
	s.Table = &table{Columns: []string{"Feature", "Lookup key", "Entitlement"}}
	for _, e := range list[:min(len(list), maxEntitlements)] {
		s.Table.Rows = append(s.Table.Rows, []cell{{ID: e.FeatureID}, {Text: e.LookupKey}, {ID: e.ID}})
	}
	return s, nil
}

// objectsOf returns a section with the objects of some types.
func (c *Console) objectsOf(id, title string, kinds ...string) func(context.Context, *customer) (*section, error) {
	return func(_ context.Context, d *customer) (*section, error) {
		return c.objectSection(d, &section{ID: id, Title: title, None: "No mirrored object of the types " + strings.Join(kinds, ", ") + "."}, kinds), nil
	}
}

// objectSection fills a section with objects, and takes them from those that are left for the others.
func (c *Console) objectSection(d *customer, s *section, kinds []string) *section {
	var rows []db.StripeObject
	for _, kind := range kinds {
		of := d.objects[kind]
		delete(d.objects, kind)
		if len(of) > customerRows {
			of = of[:customerRows]
			s.More = append(s.More, more{"All of type " + kind, d.list(kind, d.ID)})
		}
		rows = append(rows, of...)
	}
	if len(rows) == 0 {
		return s
	}
	slices.SortStableFunc(rows, func(a, b db.StripeObject) int { return createdAt(&b).Compare(createdAt(&a)) })
	for i := range rows {
		d.ids = append(d.ids, rows[i].ID)
	}
	s.Table = c.objectTable(rows, objectColumns{kind: true})
	return s
}

func createdAt(o *db.StripeObject) time.Time {
	if o.StripeCreatedAt == nil {
		return time.Time{}
	}
	return *o.StripeCreatedAt
}

// paymentsOf returns the customer's payments, with the refunds and disputes of those that the page shows: they have no customer.
func (c *Console) paymentsOf(ctx context.Context, d *customer) (*section, error) {
	s := &section{ID: "payments", Title: "Payments", None: "No mirrored charge, payment intent or checkout session."}
	var payments []string
	oldest := ever
	for _, kind := range []string{"charge", "payment_intent"} {
		for i := range d.objects[kind] {
			o := &d.objects[kind][i]
			payments = append(payments, o.ID)
			if createdAt(o).Before(oldest) {
				oldest = createdAt(o)
			}
		}
	}
	if len(payments) > 0 {
		rows, err := c.queries.ConsolePaymentObjectList(ctx, c.pool, db.ConsolePaymentObjectListParams{
			AccountID: d.Account, Livemode: d.Livemode, CreatedFrom: &oldest, MaxLookedAt: maxPaymentObjects, Payments: payments, MaxEach: customerRows,
		})
		if err != nil {
			return nil, err
		}
		for i := range rows {
			if kind := rows[i].ObjectType; rows[i].CustomerID == nil {
				d.objects[kind] = append(d.objects[kind], rows[i])
			}
		}
		s.Note = fmt.Sprintf("Refunds and disputes do not name the customer: they are those of the payments shown here, at most %d of each, among the newest %s of each.",
			customerRows, count(maxPaymentObjects))
	}
	return c.objectSection(d, s, []string{"charge", "payment_intent", "refund", "dispute", "checkout.session"}), nil
}

// othersOf returns the objects of types that no other section has.
func (c *Console) othersOf(_ context.Context, d *customer) (*section, error) {
	var kinds []string
	for kind := range d.objects {
		kinds = append(kinds, kind)
	}
	if len(kinds) == 0 {
		return nil, nil
	}
	slices.Sort(kinds)
	return c.objectSection(d, &section{ID: "others", Title: "Other objects"}, kinds), nil
}

// eventsOf lists the events of the customer's objects, and of what its page shows beside these: refunds and disputes.
func (c *Console) eventsOf(ctx context.Context, d *customer) error {
	filter := operations.EventFilter{Customer: d.ID, Account: d.Account, NoAccount: d.Account == "", Livemode: &d.Livemode, Limit: pageRows}
	objects, err := c.operator.CustomerObjects(ctx, filter)
	if err != nil {
		return err
	}
	for _, id := range d.ids {
		if !slices.Contains(objects.IDs, id) {
			objects.IDs = append(objects.IDs, id)
		}
	}
	d.Traced, d.Cut = len(objects.IDs), objects.Truncated
	d.Events, err = c.operator.EventsOf(ctx, objects.IDs, filter)
	return err
}
