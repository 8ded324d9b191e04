package console

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/compare"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/objecttypes"
	"github.com/pook/stripeonce/internal/operationid"
	"github.com/pook/stripeonce/operations"
)

// What the console can start.
const (
	doCompare   = "compare"
	doFetch     = "fetch"
	doReconcile = "reconcile"
	doReplay    = "replay"  // a group of failures
	doDismiss   = "dismiss" // a group of failures
)

const (
	newRunPath = "/runs/new"
	// maxID is how long an id, a type or an account may be.
	maxID = 255
	// maxForm is how many bytes a form may have.
	maxForm = 64 << 10
)

// windows are the times that the console reconciles.
var windows = []struct {
	Name, Label string
	since       time.Duration
}{{"1h", "hour", time.Hour}, {"24h", "day", 24 * time.Hour}, {"72h", "three days", 72 * time.Hour}}

// task is something that the console can start.
type task struct {
	place           // of the object or the customer. Reconcile uses the account alone
	Do       string // doCompare, doFetch, doReconcile, doReplay or doDismiss
	Type, ID string // of the object
	Customer string // all of this customer's objects instead
	Window   string // the name of what is reconciled

	Group string // the key of the failures to replay or to dismiss
	State operations.FailureState
	Until time.Time // of their first failures; zero: any
}

// taskOf reads a task from a link or a form. Its error is errNotFound.
func taskOf(values url.Values) (*task, error) {
	get := func(name string) string { return strings.TrimSpace(values.Get(name)) }
	t := &task{
		place: place{get("account"), get("livemode") == "true"}, Do: get("do"), Type: get("type"), ID: get("id"), Customer: get("customer"),
		Window: get("window"), Group: get("group"), State: operations.FailureState(get("state")),
	}
	if until := get("until"); until != "" {
		var err error
		if t.Until, err = time.Parse(time.RFC3339Nano, until); err != nil {
			return nil, errNotFound
		}
	}
	for _, text := range []string{t.Account, t.Type, t.ID, t.Customer} {
		if len(text) > maxID || strings.ContainsRune(text, 0) {
			return nil, errNotFound
		}
	}
	ofObject := t.Type != "" && t.ID != "" && t.Customer == ""
	ofCustomer := t.Customer != "" && t.Type+t.ID == ""
	switch {
	case t.ofGroup() && operationid.IsGroupKey(t.Group) && (t.State == "" || t.State == operations.StateFailing || t.State == operations.StateParked):
		return t, nil
	case t.Do == doReconcile && t.Label() != "", (t.Do == doCompare || t.Do == doFetch) && (ofObject || ofCustomer):
		return t, nil
	}
	return nil, errNotFound
}

// Values are the task's form, which taskOf reads.
func (t *task) Values() url.Values {
	values := t.values()
	until := ""
	if !t.Until.IsZero() {
		until = t.Until.UTC().Format(time.RFC3339Nano)
	}
	for name, value := range map[string]string{
		"do": t.Do, "type": t.Type, "id": t.ID, "customer": t.Customer, "window": t.Window, "group": t.Group, "state": string(t.State), "until": until,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values
}

// Label is how the time is called that is reconciled.
func (t *task) Label() string {
	for _, w := range windows {
		if w.Name == t.Window {
			return w.Label
		}
	}
	return ""
}

func (t *task) since() time.Duration {
	for _, w := range windows {
		if w.Name == t.Window {
			return w.since
		}
	}
	return 0
}

// Title says what the task does.
func (t *task) Title() string {
	what := t.ID
	if t.Customer != "" {
		what = "everything of " + t.Customer
	}
	switch t.Do {
	case doCompare:
		return "Compare " + what + " with Stripe"
	case doFetch:
		return "Fetch " + what + " from Stripe"
	case doReplay, doDismiss:
		return t.name() + " the group " + t.Group
	default:
		return "Reconcile the last " + t.Label()
	}
}

// from returns the path of the page that the task belongs to.
func (t *task) from() template.URL {
	switch {
	case t.Do == doReconcile:
		return "/runs"
	case t.Customer != "":
		return t.object("customer", t.Customer)
	case t.Type == compare.Subscription:
		return template.URL("/subscriptions/" + url.PathEscape(t.ID)) //nolint:gosec // encoded here
	case t.Type == "customer": // the page about its row
		return template.URL("/objects/customer/" + url.PathEscape(t.ID) + "?" + t.values().Encode()) //nolint:gosec // encoded here
	}
	return t.object(t.Type, t.ID)
}

// actions are links to what the console can start, or the reason why it cannot.
type actions struct {
	Links []more
	Why   string
}

func (a *actions) add(text string, t *task) {
	a.Links = append(a.Links, more{text, template.URL(newRunPath + "?" + t.Values().Encode())}) //nolint:gosec // encoded here
}

const (
	noProjection = "To fetch subscriptions, set console.Config.Subscriptions to the result of subscriptions.Register."
	noKey        = "Without an API key nothing can be compared with Stripe from here. Set STRIPE_API_KEY of serve, or console.Config.APIKey."
)

// comparisons returns what the console can start for an object, or for everything of a customer.
func (c *Console) comparisons(of task) (a actions) {
	for _, do := range []struct{ name, label string }{{doCompare, "Compare with Stripe"}, {doFetch, "Fetch from Stripe"}} {
		t := of
		t.Do = do.name
		if why := c.cannot(&t); why == "" {
			a.add(do.label, &t)
		} else {
			a.Why = why
		}
	}
	return a
}

// reconciliations returns which times the console can reconcile.
func (c *Console) reconciliations() (a actions) {
	if c.config.APIKey == "" {
		return actions{Why: noKey}
	}
	for _, w := range windows {
		a.add("Reconcile the last "+w.Label, &task{Do: doReconcile, Window: w.Name})
	}
	return a
}

// cannot says why a task cannot be started, or nothing.
func (c *Console) cannot(t *task) string {
	if t.ofGroup() {
		return ""
	}
	if c.config.APIKey == "" {
		return noKey
	}
	if t.Do == doReconcile {
		return ""
	}
	if livemode, known := compare.KeyMode(c.config.APIKey); known && livemode != t.Livemode {
		return fmt.Sprintf("The API key is of %s mode, and this is of %s mode.", modeOf(livemode), modeOf(t.Livemode))
	}
	switch {
	case t.Customer != "":
	case t.Type == compare.Subscription && t.Do == doFetch && c.config.Subscriptions == nil:
		return noProjection
	case t.Type != compare.Subscription && objecttypes.Comparable([]string{t.Type}) != nil:
		return "Objects of type " + t.Type + " cannot be compared: it is not known where Stripe's API has them."
	}
	return ""
}

// comparison configures a comparison.
func (c *Console) comparison(ctx context.Context, t *task) (*compare.Config, error) {
	account := t.Account
	config := &compare.Config{
		Pool: c.pool, Receiver: c.receiver, Subscriptions: c.config.Subscriptions, Mirror: c.config.Mirror, APIKey: c.config.APIKey, APIBase: c.config.APIBase,
		AccountID: c.receiver.AccountID(), Account: &account, Only: t.ID, Customer: t.Customer, Fix: t.Do == doFetch, Logger: c.config.Logger,
	}
	if t.Customer == "" {
		config.Types = compare.One(t.Type)
		return config, nil
	}
	var err error
	config.Types, err = c.typesOf(ctx, t)
	if config.Fix && c.config.Subscriptions == nil {
		config.Types.Subscriptions = false
	}
	if err == nil && config.Empty() {
		err = &unavailableError{why: noProjection}
	}
	return config, err
}

// typesOf returns the types of a customer's objects: those that are mirrored, and those that are stored.
func (c *Console) typesOf(ctx context.Context, t *task) (compare.Types, error) {
	types := compare.Of(c.config.Mirror)
	rows, err := c.queries.ConsoleCustomerObjectList(ctx, c.pool, db.ConsoleCustomerObjectListParams{
		CustomerID: t.Customer, AccountID: t.Account, Livemode: t.Livemode, MaxEach: 1,
	})
	if err != nil && !fault.LacksMigration(err) {
		return types, err
	}
	for i := range rows {
		if object := rows[i].ObjectType; objecttypes.Comparable([]string{object}) == nil {
			types.Mirrored = append(types.Mirrored, object)
		}
	}
	slices.Sort(types.Mirrored)
	types.Mirrored = slices.Compact(types.Mirrored)
	return types.ByCustomer(), nil
}

// startData is what the page shows that asks whether to start a task.
type startData struct {
	*task
	Types    []string // of the objects
	Fix      bool
	Receiver string
	Handlers []string // the types of events that have handlers
	// OnChange is called for subscriptions, and for mirrored objects. MirrorUnknown: it is not, since the console does not know of it.
	OnChange, MirrorUnknown bool
	Without                 bool // subscriptions are left out
	Limit                   string
	Cancel                  template.URL
}

// confirm asks whether to start a task.
func (c *Console) confirm(r *request) (*page, error) {
	t, err := taskOf(r.URL.Query())
	switch {
	case err != nil:
		return nil, err
	case c.readOnly(r.Request):
		return nil, errReadOnly
	}
	if why := c.cannot(t); why != "" {
		return nil, &unavailableError{why: why}
	}
	if t.ofGroup() {
		return c.confirmGroup(r, t)
	}
	d := &startData{task: t, Receiver: c.receiver.Name(), Handlers: c.receiver.Types(), Limit: inWords(c.config.RunTimeout), Cancel: t.from()}
	if t.Do != doReconcile {
		config, err := c.comparison(r.ctx, t)
		if err != nil {
			return nil, err
		}
		d.Types, d.Fix = config.Names(), config.Fix
		d.Without = d.Fix && t.Customer != "" && !config.Types.Subscriptions
		d.MirrorUnknown = c.config.Mirror == nil && len(config.Mirrored) > 0
		d.OnChange = config.Types.Subscriptions || c.config.Mirror != nil
	}
	return &page{Title: t.Title(), Template: "start", Data: d}, nil
}

// unavailableError says why something cannot be started.
type unavailableError struct {
	why string
	run string // in progress
}

func (e *unavailableError) Error() string { return e.why }

// start starts a task and redirects to its run's page.
func (c *Console) start(w http.ResponseWriter, r *request) {
	ctx, cancel := context.WithTimeout(r.ctx, c.config.Timeout)
	defer cancel()
	r.ctx, r.Body = ctx, http.MaxBytesReader(w, r.Body, maxForm)
	var id string
	err := c.inSlot(ctx, func() (err error) {
		id, err = c.startAsked(r)
		return err
	})
	if err != nil {
		status, p := c.failed(r, err)
		c.show(w, r, "/runs", status, p)
		return
	}
	http.Redirect(w, r.Request, r.base+string(runPath(id)), http.StatusSeeOther)
}

// startAsked starts the task of the request's form.
func (c *Console) startAsked(r *request) (run string, err error) {
	if err := r.ParseForm(); err != nil {
		return "", errForm
	}
	t, err := taskOf(r.PostForm)
	if err != nil {
		return "", err
	}
	if why := c.cannot(t); why != "" {
		return "", &unavailableError{why: why}
	}
	reason := strings.TrimSpace(r.PostForm.Get("reason"))
	if t.Do == doDismiss && !isReason(reason) {
		return "", errReason
	}
	return c.begin(r, t, reason)
}
