package operations

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/erasure"
)

// linkedTypes are the types of objects that name no customer, or not any more, and belong to a customer's payment.
var linkedTypes = []string{
	"refund", "dispute", "review", "radar.early_fraud_warning", "invoice_payment", "mandate", "payment_method", "setup_attempt",
	"identity.verification_session",
}

// lookPage is how many rows a look at all rows of a table takes at a time.
const lookPage = 1000

// found is what there is of a customer.
type found struct {
	ids     map[objectID]bool // of all objects of the customer that are known, also those that are not mirrored
	linked  []ErasedObject    // that name no customer
	objects []ErasedObject    // the others
	subs    []ErasedObject
	events  []string // those that say whose an object is come last
	owned   bool     // something names the customer as its own
}

type objectID struct {
	id       string
	livemode bool
}

// sortedIDs returns the ids of the objects, in order.
func (f *found) sortedIDs() []objectID {
	return slices.SortedFunc(maps.Keys(f.ids), func(a, b objectID) int { return strings.Compare(a.id, b.id) })
}

// texts returns the ids of the objects without their modes.
func (f *found) texts() []string {
	texts := make([]string, 0, len(f.ids))
	for of := range f.ids {
		texts = append(texts, of.id)
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// add adds an id; "": none.
func (f *found) add(id string, livemode bool) {
	if id != "" {
		f.ids[objectID{id, livemode}] = true
	}
}

// find finds what there is of the customer. What names the customer is found by index; what does not, by the ids of the customer's
// objects among all objects of linkedTypes, kept payloads and failures, until there are no further ids.
func (e *eraser) find(ctx context.Context) error {
	ids := e.ids // of an earlier look: those of which the row is gone count, too
	e.found = found{ids: map[objectID]bool{}}
	maps.Copy(e.ids, ids)
	if err := e.findOwned(ctx); err != nil {
		return err
	}
	var evidence map[string]bool
	for known := -1; known < len(e.ids); {
		known = len(e.ids)
		if err := e.findLinked(ctx); err != nil {
			return err
		}
		var err error
		if evidence, err = e.findEvidence(ctx); err != nil {
			return err
		}
	}
	return e.findEvents(ctx, evidence)
}

// findOwned finds the subscriptions and objects that name the customer, and the payment methods and mandates that they name.
func (e *eraser) findOwned(ctx context.Context) error {
	subs, err := e.queries.ErasureSubscriptionList(ctx, e.pool, e.Customer, e.accounts)
	if err != nil {
		return fmt.Errorf("list the customer's subscriptions: %w", err)
	}
	for _, s := range subs {
		e.subs = append(e.subs, ErasedObject{"subscriptions", "subscription", s.ID, s.AccountID, s.Livemode})
		e.add(s.ID, s.Livemode)
		e.add(s.DefaultPaymentMethodID, s.Livemode)
	}
	objects, err := e.queries.ErasureObjectList(ctx, e.pool, e.Customer, e.accounts)
	if err != nil {
		return fmt.Errorf("list the customer's objects: %w", err)
	}
	for _, o := range objects {
		e.objects = append(e.objects, ErasedObject{"stripe_objects", o.ObjectType, o.ID, o.AccountID, o.Livemode})
		e.add(o.ID, o.Livemode)
		for _, name := range o.Names {
			e.add(name, o.Livemode)
		}
	}
	e.owned = e.owned || len(subs)+len(objects) > 0
	return nil
}

// findLinked finds the objects that name no customer and belong to the customer's payments, until there are no further ones: a refund
// is found by its charge.
func (e *eraser) findLinked(ctx context.Context) error {
	for known := -1; known < len(e.ids); {
		known, e.linked = len(e.ids), nil
		for _, account := range e.accounts {
			for _, livemode := range []bool{true, false} {
				for _, object := range linkedTypes {
					if err := e.findLinkedOf(ctx, account, livemode, object); err != nil {
						return fmt.Errorf("look for %ss of the customer's payments: %w", object, err)
					}
				}
			}
		}
	}
	return nil
}

func (e *eraser) findLinkedOf(ctx context.Context, account string, livemode bool, object string) error {
	params := db.ErasureLinkedListParams{
		Ids: e.texts(), CustomerID: e.Customer, CustomerHash: e.hash, AccountID: account, Livemode: livemode, ObjectType: object, MaxLookedAt: lookPage,
	}
	for {
		rows, err := e.queries.ErasureLinkedList(ctx, e.pool, params)
		if err != nil {
			return err
		}
		for _, row := range rows {
			params.AfterID = row.ID
			if row.Linked {
				e.linked = append(e.linked, ErasedObject{"stripe_objects", object, row.ID, account, livemode})
				e.add(row.ID, livemode)
			}
		}
		if len(rows) < lookPage {
			return nil
		}
	}
}

// findEvidence finds the events that the kept payloads and the failures show to be the customer's, and the objects that these are
// about: there may be no row of them.
func (e *eraser) findEvidence(ctx context.Context) (events map[string]bool, err error) {
	events = map[string]bool{}
	params := db.ErasurePayloadListParams{CustomerID: e.Customer, CustomerHash: e.hash, AccountIds: e.accounts, Ids: e.texts(), MaxLookedAt: lookPage}
	for more := true; more; {
		rows, err := e.queries.ErasurePayloadList(ctx, e.pool, params)
		if err != nil {
			return nil, fmt.Errorf("look for the customer among the kept payloads: %w", err)
		}
		for i := range rows {
			params.AfterEventID = rows[i].EventID
			e.concerns(&rows[i], events)
		}
		more = len(rows) == lookPage
	}
	params.AfterEventID = ""
	for more := true; more; {
		rows, err := e.queries.ErasureFailureList(ctx, e.pool, db.ErasureFailureListParams(params))
		if err != nil {
			return nil, fmt.Errorf("look for the customer among the failures: %w", err)
		}
		for i := range rows {
			params.AfterEventID = rows[i].EventID
			e.concerns((*db.ErasurePayloadListRow)(&rows[i]), events)
		}
		more = len(rows) == lookPage
	}
	return events, nil
}

// concerns notes an event that concerns the customer. The object is the customer's own, too, unless it is one such as a product, which
// only names the customer.
func (e *eraser) concerns(row *db.ErasurePayloadListRow, events map[string]bool) {
	if !row.Concerns {
		return
	}
	events[row.EventID] = true
	e.owned = e.owned || row.Owned
	if row.Owned || slices.Contains(linkedTypes, row.ObjectType) {
		e.add(row.ObjectID, row.Livemode)
	}
}

// findEvents finds the events of the objects, by index. Those that also show whose an object is come last, so that a run that is
// interrupted finds the others again.
func (e *eraser) findEvents(ctx context.Context, evidence map[string]bool) error {
	ids := e.texts()
	if !slices.Contains(ids, e.Customer) {
		ids = append(ids, e.Customer)
	}
	for batch := range slices.Chunk(ids, e.BatchSize) {
		events, err := e.queries.ErasureEventList(ctx, e.pool, batch, e.accounts)
		if err != nil {
			return fmt.Errorf("list the events of the customer's objects: %w", err)
		}
		for _, id := range events {
			if !evidence[id] {
				e.events = append(e.events, id)
			}
		}
	}
	e.events = append(e.events, slices.Sorted(maps.Keys(evidence))...)
	return nil
}

// isKnown reports whether the customer is known: by rows, by payloads, by an event about the customer itself, or from an earlier
// erasure.
func (e *eraser) isKnown(ctx context.Context) (bool, error) {
	if e.owned {
		return true, nil
	}
	known, err := e.queries.ErasureCustomerKnown(ctx, e.pool, db.ErasureCustomerKnownParams{
		CustomerHash: e.hash, AccountIds: e.accounts, CustomerID: e.Customer,
	})
	if err != nil {
		return false, fmt.Errorf("look for the customer: %w", err)
	}
	return known, nil
}

// count counts what there is, for a dry run.
func (e *eraser) count(ctx context.Context) (EraseResult, error) {
	sum := EraseResult{Subscriptions: int64(len(e.subs)), Objects: int64(len(e.linked) + len(e.objects)), List: slices.Concat(e.subs, e.objects, e.linked)}
	ids := make([]string, len(e.subs))
	for i := range e.subs {
		ids[i] = e.subs[i].ID
	}
	var err error
	if sum.Items, err = e.queries.ErasureItemCount(ctx, e.pool, ids); err == nil {
		sum.Runs, err = e.queries.ErasureRunCount(ctx, e.pool, e.Customer)
	}
	if err != nil {
		return sum, fmt.Errorf("count the rows: %w", err)
	}
	for batch := range slices.Chunk(e.events, e.BatchSize) {
		of, err := e.queries.ErasureCount(ctx, e.pool, batch, erasure.Text)
		if err != nil {
			return sum, fmt.Errorf("count the events: %w", err)
		}
		sum.Events += of.Events
		sum.Payloads += of.Payloads
		sum.Failures += of.Failures
	}
	return sum, nil
}
