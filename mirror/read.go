package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/objecttypes"
	"github.com/pook/stripeonce/internal/rawjson"
)

// ErrNotFound reports that there is no such object. Get and List wrap it for an object that is not stored, and Verify for the object of
// VerifyConfig.Only if neither Stripe nor the table has it.
var ErrNotFound = errors.New("no such object")

// DefaultLimit is the default of Filter.Limit.
const DefaultLimit = 100

// Key identifies an object.
type Key struct {
	// Account is the object's account. Empty: the receiver's own, unless webhooks.Config.AccountID names it.
	Account string
	// Livemode is the object's mode. Nil: either. Where both modes have an object of this id, that of live mode is returned.
	Livemode *bool
	// Type is the type as in Stripe's member object. Empty: that of T, or of the id's prefix.
	Type string
	ID   string
}

// Filter selects objects of one type. Empty fields select all.
type Filter struct {
	Type         string // as in Stripe's member object; empty: that of T
	Account      string // empty: the receiver's own, unless webhooks.Config.AccountID names it
	Livemode     *bool  // nil: either mode
	Customer     string // cus_…
	Subscription string // sub_…
	Status       string
	// Deleted selects objects that Stripe has deleted. By default they are left out, as in Stripe's lists.
	Deleted bool
	// CreatedFrom and CreatedBefore bound the time of creation at Stripe: from, inclusive, and before, exclusive.
	CreatedFrom, CreatedBefore time.Time
	// After is the id of the last object of the previous page. Set Livemode to page through objects whose ids are your own choice,
	// such as products: both modes may have one id.
	After string
	// Limit is the maximum number of objects. Defaults to DefaultLimit, 100.
	Limit int
}

// Get returns an object, decoded into T: a struct of any major version of stripe-go, one of your own, json.RawMessage, or Object.
// The key is an id or a Key. The type of object is that of Key.Type, of a stripe-go struct, or of the id's prefix. conn is a
// *pgxpool.Pool, a *pgx.Conn or a pgx.Tx. The error wraps ErrNotFound if there is none. Of a deleted object there may be only id,
// object and deleted; deleted is true in what is decoded. The object has the shape of its API version: decode it into the stripe-go of
// your endpoint's version, or query the views, which are the same for all versions.
func Get[T any, K ~string | Key](ctx context.Context, conn db.DBTX, key K) (*T, error) {
	k, err := keyOf(key).of(typeOf[T]())
	if err != nil {
		return nil, err
	}
	for _, livemode := range modes(k.Livemode) {
		row, err := db.New().ObjectGet(ctx, conn, db.ObjectGetParams{AccountID: k.Account, Livemode: livemode, ObjectType: k.Type, ID: k.ID})
		switch {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return nil, fmt.Errorf("get %s %s: %w", k.Type, k.ID, err)
		default:
			return decodeRow[T](&row)
		}
	}
	return nil, fmt.Errorf("%s %s: %w", k.Type, k.ID, ErrNotFound)
}

// List returns the objects that a filter selects, the newest first by Stripe's time of creation, decoded as Get does. Objects without
// such a time, such as payment links, come last, by their ids. For the next page, set Filter.After to the id of the last object; a
// page that is shorter than Filter.Limit is the last one.
func List[T any](ctx context.Context, conn db.DBTX, filter Filter) ([]*T, error) {
	rows, err := filter.rows(ctx, conn, typeOf[T]())
	if err != nil {
		return nil, err
	}
	list := make([]*T, len(rows))
	for i := range rows {
		if list[i], err = decodeRow[T](&rows[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// rows reads the rows of a page: those with a time of creation, then those without.
func (f *Filter) rows(ctx context.Context, conn db.DBTX, object string) (rows []db.StripeObject, err error) {
	if f.Type != "" && object != "" && f.Type != object {
		return nil, fmt.Errorf("mirror.Filter.Type is %q, and the struct is of the type %q", f.Type, object)
	}
	if object = cmp.Or(object, f.Type); object == "" {
		return nil, errors.New("mirror.Filter.Type is empty, and the struct does not determine the type: set it")
	}
	if f.Limit < 0 {
		return nil, fmt.Errorf("mirror.Filter.Limit is %d: use 0 for the default, or a positive number", f.Limit)
	}
	limit := int32(min(cmp.Or(f.Limit, DefaultLimit), 1<<30))
	last := &Object{} // of the page before
	if f.After != "" {
		if last, err = Get[Object](ctx, conn, Key{Account: f.Account, Livemode: f.Livemode, Type: object, ID: f.After}); err != nil {
			return nil, fmt.Errorf("mirror.Filter.After: %w", err)
		}
	}
	if f.After == "" || last.Created != nil {
		if rows, err = f.dated(ctx, conn, object, last, limit); err != nil {
			return nil, fmt.Errorf("list %ss: %w", object, err)
		}
		last = &Object{}
	}
	if limit -= int32(len(rows)); limit == 0 || !f.CreatedFrom.IsZero() || !f.CreatedBefore.IsZero() {
		return rows, nil
	}
	undated, err := db.New().ObjectListUndated(ctx, conn, db.ObjectListUndatedParams{
		Livemodes: modes(f.Livemode), AccountID: f.Account, ObjectType: object, AfterID: last.ID, CustomerID: engine.NilIfEmpty(f.Customer),
		SubscriptionID: engine.NilIfEmpty(f.Subscription), Status: engine.NilIfEmpty(f.Status), Deleted: f.Deleted, MaxRows: limit,
	})
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", object, err)
	}
	return append(rows, undated...), nil
}

// dated reads the rows with a time of creation, by the index that fits the filter.
func (f *Filter) dated(ctx context.Context, conn db.DBTX, object string, last *Object, limit int32) ([]db.StripeObject, error) {
	from, before := f.CreatedFrom, f.CreatedBefore
	if before.IsZero() {
		before = time.Unix(maxSecond, 0)
	}
	params := db.ObjectListByCustomerParams{
		CustomerID: f.Customer, ObjectType: object, AccountID: f.Account, Livemodes: modes(f.Livemode),
		CreatedFrom: &from, CreatedBefore: &before, SubscriptionID: engine.NilIfEmpty(f.Subscription), Status: engine.NilIfEmpty(f.Status), Deleted: f.Deleted,
		Before: last.Created, BeforeID: last.ID, MaxRows: limit,
	}
	switch {
	case f.Customer != "":
		return db.New().ObjectListByCustomer(ctx, conn, params)
	case f.Subscription != "":
		return db.New().ObjectListBySubscription(ctx, conn, db.ObjectListBySubscriptionParams{
			SubscriptionID: f.Subscription, ObjectType: object, AccountID: params.AccountID, Livemodes: params.Livemodes,
			CreatedFrom: params.CreatedFrom, CreatedBefore: params.CreatedBefore, Before: params.Before, BeforeID: params.BeforeID,
			Status: params.Status, Deleted: params.Deleted, MaxRows: params.MaxRows,
		})
	default:
		return db.New().ObjectList(ctx, conn, db.ObjectListParams{
			Livemodes: params.Livemodes, AccountID: params.AccountID, ObjectType: object, CreatedFrom: params.CreatedFrom,
			CreatedBefore: params.CreatedBefore, Before: params.Before, BeforeID: params.BeforeID,
			Status: params.Status, Deleted: params.Deleted, MaxRows: params.MaxRows,
		})
	}
}

func decodeRow[T any](row *db.StripeObject) (*T, error) {
	o := fromRow(row)
	into := new(T)
	if whole, ok := any(into).(*Object); ok {
		*whole = *o
		return into, nil
	}
	if o.Deleted && !rawjson.IsTrue(o.Object, "deleted") {
		members := membersOf(o.Object)
		if members == nil {
			members = map[string]any{}
		}
		members["deleted"] = true
		text, err := json.Marshal(members)
		if err != nil {
			return nil, fmt.Errorf("decode %s %s: %w", o.Type, o.ID, err)
		}
		o.Object = text
	}
	return into, o.Decode(into)
}

// modes returns the modes to look at, live mode first.
func modes(livemode *bool) []bool {
	if livemode != nil {
		return []bool{*livemode}
	}
	return []bool{true, false}
}

func keyOf[K ~string | Key](key K) Key {
	if k, ok := any(key).(Key); ok {
		return k
	}
	return Key{ID: reflect.ValueOf(key).String()}
}

// of completes a key by the type that a struct stands for, if any.
func (k Key) of(object string) (Key, error) {
	if k.Type != "" {
		return k, nil
	}
	if k.Type = object; k.Type == "" {
		k.Type = objecttypes.OfID(k.ID)
	}
	if k.Type == "" {
		return k, fmt.Errorf("mirror: neither the struct nor the id determines the type of object %s: use mirror.Key with a Type", k.ID)
	}
	return k, nil
}

// typeOf returns the type of object that a struct of stripe-go stands for, of any major version; "" for another T.
func typeOf[T any]() string {
	t := reflect.TypeFor[T]()
	if !strings.HasPrefix(t.PkgPath(), "github.com/stripe/stripe-go/") {
		return ""
	}
	name := t.Name()
	if object, known := irregular[name]; known {
		return object
	}
	var object strings.Builder
	for i, letter := range name {
		if letter >= 'A' && letter <= 'Z' && i > 0 {
			object.WriteByte('_')
		}
		object.WriteString(strings.ToLower(string(letter)))
	}
	return object.String()
}

// irregular are the structs of stripe-go whose names are not the types in camel case.
var irregular = map[string]string{
	"CheckoutSession": "checkout.session", "InvoiceItem": "invoiceitem", "TaxID": "tax_id", "RadarEarlyFraudWarning": "radar.early_fraud_warning",
	"EntitlementsActiveEntitlementSummary": summaryType,
}
