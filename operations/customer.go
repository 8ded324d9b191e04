package operations

import (
	"context"
	"fmt"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
)

// MaxCustomerObjects is how many subscriptions of a customer, and mirrored objects of each type, CustomerObjects returns.
const MaxCustomerObjects = 200

// CustomerObjects are the objects that are known to be a customer's.
type CustomerObjects struct {
	// IDs are the ids, without repetition. The first is the customer's own, under which the ledger also has events of the customer's
	// objects without an id, such as an upcoming invoice.
	IDs []string
	// Truncated reports that the customer has more objects of a type than MaxCustomerObjects. The newest of these are in IDs.
	Truncated bool
}

// CustomerObjects returns the ids of a customer's objects, in the account and the mode of the filter, which has the customer. They are
// the customer itself, its subscriptions, and its mirrored objects, each looked up in an index. Objects that are not mirrored are
// not found, nor those that do not name their customer, such as refunds and disputes.
func (o *Operator) CustomerObjects(ctx context.Context, f EventFilter) (CustomerObjects, error) {
	found := CustomerObjects{IDs: []string{f.Customer}}
	var account *string
	if f.Account != "" || f.NoAccount {
		account = &f.Account
	}
	ids, err := o.queries.CustomerSubscriptionIDList(ctx, o.pool, db.CustomerSubscriptionIDListParams{
		CustomerID: f.Customer, AccountID: account, Livemode: f.Livemode, MaxRows: MaxCustomerObjects + 1,
	})
	if err != nil && !fault.LacksMigration(err) {
		return found, fmt.Errorf("list the subscriptions of %s: %w", f.Customer, err)
	}
	objects, err := o.queries.CustomerObjectIDList(ctx, o.pool, db.CustomerObjectIDListParams{
		CustomerID: f.Customer, AccountID: account, Livemode: f.Livemode, MaxEach: MaxCustomerObjects + 1,
	})
	if err != nil && !fault.LacksMigration(err) {
		return found, fmt.Errorf("list the objects of %s: %w", f.Customer, err)
	}
	of := map[string]int{"subscription": len(ids)}
	for _, object := range objects {
		if of[object.ObjectType]++; of[object.ObjectType] <= MaxCustomerObjects {
			found.IDs = append(found.IDs, object.ID)
		}
	}
	for _, n := range of {
		found.Truncated = found.Truncated || n > MaxCustomerObjects
	}
	found.IDs = distinct(append(found.IDs, ids[:min(len(ids), MaxCustomerObjects)]...))
	return found, nil
}
