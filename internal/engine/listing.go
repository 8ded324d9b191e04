package engine

import (
	"context"
	"time"

	"github.com/pook/stripeonce/internal/pgpipe"
)

// Listing is the part of a Store that compares the rows with Stripe's objects.
type Listing[T any] interface {
	// Accounts lists the accounts that have rows, in order.
	Accounts(ctx context.Context, db pgpipe.DBTX) ([]string, error)
	// Version returns the API version in which to list an account's objects. Where states differ by version, it is that of most
	// rows. Empty: the account's.
	Version(ctx context.Context, db pgpipe.DBTX, account string, livemode *bool) (string, error)
	// Rows reads rows by their keys, in no order.
	Rows(ctx context.Context, db pgpipe.DBTX, keys []Key) ([]*Row[T], error)
	// Keys lists the rows of a span in the order of Stripe's lists: by creation, newest first.
	Keys(ctx context.Context, db pgpipe.DBTX, span Span) ([]DatedKey, error)
	// CustomerKeys lists the rows of a customer in an account and a mode (nil: any), by id, after an id.
	CustomerKeys(ctx context.Context, db pgpipe.DBTX, account string, livemode *bool, customer, after string) ([]Key, error)
	// UndatedKeys lists the rows of an account and a mode (nil: any) without a time of creation, by id, after an id.
	UndatedKeys(ctx context.Context, db pgpipe.DBTX, account string, livemode *bool, after string) ([]Key, error)
	// IncompleteKeys lists the rows of a mode (nil: any) of whose lists only a part is stored, at most so many, after a key.
	IncompleteKeys(ctx context.Context, db pgpipe.DBTX, livemode *bool, after Key, most int) ([]Key, error)
	// LockCompletion lets one process at a time complete rows, until the transaction ends. It reports whether it is this one.
	LockCompletion(ctx context.Context, tx pgpipe.DBTX) (bool, error)
	// Differences returns the fields in which two states differ.
	Differences(id string, local, stripe *T) []Difference
}

// KeyPage is how many keys UndatedKeys, CustomerKeys and Keys list at a time.
const KeyPage = 1000

// Span selects the rows of an account that were created at Stripe within a time.
type Span struct {
	Account  string
	Livemode *bool      // nil: of both modes
	After    time.Time  // exclusive
	Before   *time.Time // with BeforeID, exclusive; nil: no end
	BeforeID string
}

// DatedKey is a key with the time of its object's creation at Stripe.
type DatedKey struct {
	Key
	Created *time.Time
}

// Difference is one field in which a row differs from Stripe's object.
type Difference struct {
	ID     string
	Field  string // "id" if one side does not have the object
	Local  any
	Stripe any
	// Incomplete marks the field that says whether a side has its whole lists. Such a row never counts as equal.
	Incomplete bool
}

// UnreadableError says why Decode cannot read an object.
type UnreadableError struct {
	Object string // the type of object
	Reason string
}

func (e *UnreadableError) Error() string { return "the " + e.Object + " cannot be read: " + e.Reason }
