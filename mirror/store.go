package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/internal/redact"
	"github.com/pook/stripeonce/webhooks"
)

type (
	storedRow = engine.Row[Object]
	version   = engine.Version[Object]
)

// store reads and writes the rows of one type for the engine.
type store struct {
	*rule
	queries *db.Queries
}

var _ engine.Store[Object] = store{}

// Key is the whole key: ids may be the caller's choice.
func (store) Key(account string, livemode bool, id string) engine.Key {
	return engine.Key{Account: account, Livemode: livemode, ID: id}
}
func (s store) Digest(o *Object) []byte { return o.digest(s.ordering().Digest(o.Object)) }
func (s store) Same(a, b *Object) bool  { return bytes.Equal(s.Digest(a), s.Digest(b)) }
func (store) Clone(o *Object) *Object   { return o.clone() }

// Decode reads the object of an event, whose secrets plan has removed, or of a response of Stripe's.
func (s store) Decode(ev *webhooks.Event) (*Object, error) {
	if ev.ID == "" {
		clean := *ev
		clean.Object = redact.Secrets(ev.Object)
		ev = &clean
	}
	return s.decode(ev)
}

// Head returns what the engine reads of a state. Only a deletion is final.
func (s store) Head(o *Object) engine.Head {
	return engine.Head{
		ID: o.ID, Account: o.Account, Livemode: o.Livemode, Terminal: o.Deleted && !s.Reusable, Ended: o.Deleted || s.collectsNothing(o), Complete: o.Complete, Created: o.Created,
		Object: o.Object, EventID: o.LastEventID, EventCreated: o.LastEventCreatedAt, UpdatedAt: o.UpdatedAt,
	}
}

// Stub reports whether an object is {"id", "object", "deleted": true}. A deletion's event may have the whole object, with or
// without the member deleted.
func (store) Stub(object []byte) bool {
	return rawjson.IsTrue(object, "deleted") && rawjson.Get(object, "created") == nil
}

// Tombstone returns a deleted object of which nothing else is known.
func (s store) Tombstone(key engine.Key, ev *webhooks.Event, _ time.Time) *Object {
	return &Object{
		Type: s.Object, ID: key.ID, Account: key.Account, Livemode: key.Livemode, Deleted: true, Complete: true, Object: ev.Object,
		LastEventID: ev.ID, LastEventCreatedAt: engine.CreatedAt(ev),
	}
}

// Gone returns the stored object as deleted.
func (s store) Gone(stored *storedRow, ev *webhooks.Event, _ time.Time) (*Object, error) {
	o := stored.State.clone()
	o.Deleted, o.LastEventID, o.LastEventCreatedAt = true, "", nil
	if ev != nil {
		o.LastEventID, o.LastEventCreatedAt = ev.ID, engine.CreatedAt(ev)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(stored.Object, &members); err != nil {
		return nil, err
	}
	members["deleted"] = json.RawMessage("true")
	text, err := json.Marshal(members)
	o.Object = text
	return o, err
}

// Clock returns PostgreSQL's time.
func (s store) Clock(ctx context.Context, db pgpipe.DBTX) (*time.Time, error) {
	at, err := s.queries.ServerClock(ctx, db)
	return engine.UTC(&at), engine.Wrap(err, "read the server's clock")
}

// Ordering reads the columns that order events.
func (s store) Ordering(ctx context.Context, dbtx pgpipe.DBTX, key engine.Key, created *time.Time, unlessApplied string) (*storedRow, error) {
	row, err := s.queries.ObjectOrdering(ctx, dbtx, db.ObjectOrderingParams{
		EventCreatedAt: created, AccountID: key.Account, Livemode: key.Livemode, ObjectType: s.Object, ID: key.ID, UnlessApplied: unlessApplied,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, engine.Wrap(err, "get %s %s", s.Object, key.ID)
	}
	o := &Object{
		Type: s.Object, ID: key.ID, Account: key.Account, Livemode: key.Livemode, Deleted: row.Deleted, Object: engine.JSON(row.Object),
		LastEventID: engine.OrZero(row.LastEventID), LastEventCreatedAt: engine.UTC(row.LastEventCreatedAt), UpdatedAt: row.UpdatedAt.UTC(),
	}
	return &storedRow{
		Head: s.Head(o), State: o, Revision: row.Revision, AsOf: engine.UTC(row.AsOf), APIVersion: engine.OrZero(row.ApiVersion),
		Events: engine.JSON(row.NewestEvents), Digest: engine.StoredDigest(row.Digest, row.Revision),
	}, nil
}

// Load reads a whole row.
func (s store) Load(ctx context.Context, dbtx pgpipe.DBTX, key engine.Key, unlessApplied string) (*storedRow, error) {
	row, err := s.queries.ObjectGet(ctx, dbtx, db.ObjectGetParams{
		AccountID: key.Account, Livemode: key.Livemode, ObjectType: s.Object, ID: key.ID, UnlessApplied: unlessApplied,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, engine.Wrap(err, "get %s %s", s.Object, key.ID)
	}
	return s.storedFrom(&row), nil
}

func (s store) storedFrom(row *db.StripeObject) *storedRow {
	o := fromRow(row)
	return &storedRow{
		Head: s.Head(o), State: o, Whole: true, Revision: row.Revision, AsOf: engine.UTC(row.AsOf), APIVersion: engine.OrZero(row.ApiVersion),
		Events: row.NewestEvents, Digest: engine.StoredDigest(row.Digest, row.Revision),
	}
}

func fromRow(row *db.StripeObject) *Object {
	return &Object{
		Type: row.ObjectType, ID: row.ID, Account: row.AccountID, Livemode: row.Livemode,
		CustomerID: engine.OrZero(row.CustomerID), SubscriptionID: engine.OrZero(row.SubscriptionID), Status: engine.OrZero(row.Status),
		Deleted: row.Deleted, Complete: row.ListsComplete, Created: engine.UTC(row.StripeCreatedAt), Object: row.Object,
		LastEventID: engine.OrZero(row.LastEventID), LastEventCreatedAt: engine.UTC(row.LastEventCreatedAt),
		CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}
}

// Write returns the query that writes a version.
func (s store) Write(stored *storedRow, next *version, at *time.Time) ([]pgpipe.Query, error) {
	o := next.State
	if s.Collects != "" && s.keepCommon(next) {
		next.Digest = o.digest(s.ordering().Digest(o.Object))
	} else {
		next.Digest = o.digest(s.digestOfObject(next))
	}
	next.Revision = engine.RevisionOf(stored) + 1
	if at != nil {
		o.CreatedAt, o.UpdatedAt = *at, *at
		if stored != nil && stored.Whole {
			o.CreatedAt = stored.State.CreatedAt
		}
	}
	params := db.ObjectUpsertParams{
		AccountID: o.Account, Livemode: o.Livemode, ObjectType: s.Object, ID: o.ID,
		CustomerID: engine.NilIfEmpty(o.CustomerID), SubscriptionID: engine.NilIfEmpty(o.SubscriptionID), Status: engine.NilIfEmpty(o.Status),
		Deleted: o.Deleted, ListsComplete: o.Complete, StripeCreatedAt: o.Created, Object: o.Object,
		LastEventID: engine.NilIfEmpty(o.LastEventID), LastEventCreatedAt: o.LastEventCreatedAt, AsOf: next.AsOf,
		NewestEvents: next.NewestJSON(o.LastEventID), ApiVersion: engine.NilIfEmpty(next.APIVersion),
		Digest: engine.DigestAt(next.Digest, next.Revision), WrittenAt: at,
	}
	return []pgpipe.Query{func(ctx context.Context, db pgpipe.DBTX) error {
		rows, err := s.queries.ObjectUpsert(ctx, db, params)
		if err == nil && rows == 0 {
			err = fault.ErrNotReadBack
		}
		return engine.Wrap(err, "store %s %s", s.Object, params.ID)
	}}, nil
}

// digestOfObject returns the digest of a version's object, which its event has, or gets, too.
func (s store) digestOfObject(next *version) string {
	for i := range next.Newest {
		if o := &next.Newest[i]; o.ID == next.State.LastEventID {
			if o.To == "" {
				o.To = s.ordering().Digest(o.Object)
			}
			return o.To
		}
	}
	return s.ordering().Digest(next.State.Object)
}
