package engine

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pook/stripeonce/internal/ordering"
	"github.com/pook/stripeonce/webhooks"
)

// Head is what the engine reads of every state.
type Head struct {
	ID       string
	Account  string // empty: the receiver's own
	Livemode bool
	// Terminal reports that the object has ended: Stripe never brings it back. A wrong true makes the row deaf to newer events.
	Terminal bool
	// Ended reports that the object has ended or was deleted, even if Stripe may bring it back.
	Ended bool
	// Complete reports that the state has all elements of its lists.
	Complete     bool
	Created      *time.Time      // when Stripe created the object
	Object       json.RawMessage // Stripe's whole object
	EventID      string
	EventCreated *time.Time
	UpdatedAt    time.Time // of the row
}

// Row is a stored state with what orders events against it.
type Row[T any] struct {
	Head
	State      *T
	Whole      bool // false: State has only what Store.Ordering reads
	Revision   int64
	AsOf       *time.Time
	APIVersion string
	Events     json.RawMessage       // the events of the row's second, see newest
	set        []ordering.Occurrence // the same, of a row that was not read
	Digest     []byte                // nil: not known
}

// Version is a new state, with what orders later events against it.
type Version[T any] struct {
	State      *T
	AsOf       *time.Time
	APIVersion string
	Newest     []ordering.Occurrence
	Tombstone  bool // nothing is known of it but that it was deleted
	// Doubt is a state that may hold as well as State, since nothing orders the two (Rules.Collect). Nil: none.
	Doubt    *T
	Digest   []byte // set by Store.Write
	Revision int64  // of the row, set by Store.Write; the lock keeps others from writing it
}

// RevisionOf returns the revision of a row, or 0 for nil.
func RevisionOf[T any](row *Row[T]) int64 {
	if row == nil {
		return 0
	}
	return row.Revision
}

// NewestJSON returns Newest as JSON, for the row with the object of the event.
func (v *Version[T]) NewestJSON(eventID string) json.RawMessage {
	text := []byte{'['}
	for i, o := range ordering.Lean(v.Newest, eventID) {
		if i > 0 {
			text = append(text, ',')
		}
		text = o.AppendJSON(text)
	}
	return append(text, ']')
}

// row returns the row that the version becomes, with what Store.Ordering reads.
func (v *Version[T]) row(head Head) *Row[T] {
	return &Row[T]{
		Head: head, State: v.State, Revision: v.Revision, AsOf: v.AsOf, APIVersion: v.APIVersion,
		set: append([]ordering.Occurrence{}, v.Newest...), Digest: v.Digest,
	}
}

// newest returns the events of the row's second.
func (r *Row[T]) newest() (set []ordering.Occurrence, err error) {
	if r.set != nil {
		set = r.set
	} else if err := json.Unmarshal(r.Events, &set); err != nil {
		return nil, fmt.Errorf("newest events of %s: %w", r.ID, err)
	}
	found := false
	for i := range set {
		if set[i].ID == r.EventID {
			set[i].Object, found = r.Object, true
		}
	}
	if !found && r.AsOf == nil && r.EventID != "" {
		// An earlier version wrote the row without the set: its event is a state without a step.
		set = ordering.With(set, ordering.Occurrence{ID: r.EventID, Object: r.Object})
	}
	return set, nil
}

// position orders an event's state relative to the row.
func (r *Row[T]) position(incoming Head) ordering.Position {
	return ordering.Compare(ordering.State{Terminal: incoming.Terminal, Created: incoming.EventCreated},
		ordering.State{Terminal: r.Terminal, Created: r.EventCreated, AsOf: r.AsOf})
}

// mayBecome refuses an event of another account than the row's. Stripe's ids are unique across accounts, so such an event was
// made up by somebody who has a signing secret, or an account is not told apart. A row of the time before Config.AccountID was
// set has no account, and gets the receiver's own.
func (r *Row[T]) mayBecome(ev *webhooks.Event, noun string) error {
	if r == nil || r.Account == ev.Account || r.Account == "" && ev.OwnAccount() {
		return nil
	}
	return fmt.Errorf("%s %s belongs to account %q, but the event to account %q: the event does not change it", noun, r.ID, r.Account, ev.Account)
}

// covers reports whether the row is of a response that Stripe gave after the event, so that the event's change is in it.
func (r *Row[T]) covers(ev *webhooks.Event) bool {
	return r != nil && r.AsOf != nil && !ev.Created.IsZero() && ordering.CompareAsOf(&ev.Created, *r.AsOf) == ordering.Older
}

func occurrenceOf(ev *webhooks.Event) ordering.Occurrence {
	return ordering.Occurrence{ID: ev.ID, Type: ev.Type, APIVersion: ev.APIVersion, Object: ev.Object, Previous: ev.Previous}
}

// FromEvent returns the version of an event that is newer than the row.
func FromEvent[T any](ev *webhooks.Event, incoming *T) *Version[T] {
	return &Version[T]{State: incoming, APIVersion: ev.APIVersion, Newest: []ordering.Occurrence{occurrenceOf(ev)}}
}
