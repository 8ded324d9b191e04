package engine

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/pook/stripeonce/internal/ordering"
	"github.com/pook/stripeonce/webhooks"
)

// next returns the version that the row becomes by an event, or nil if the row stays as it is. The event's lists may go on
// (has_more): then the object is fetched with all of their elements.
func (e *Engine[T]) next(ctx context.Context, ev *webhooks.Event, incoming *T, stored *Row[T]) (*Version[T], error) {
	next, err := e.nextOf(ctx, ev, incoming, stored)
	if err == nil && next != nil && !e.store.Head(next.State).Complete && e.mayRefetch(ev) {
		options := e.fetchOptions(ev, stored)
		options.Optional = true
		return nil, webhooks.Fetch(options)
	}
	return next, err
}

func (e *Engine[T]) nextOf(ctx context.Context, ev *webhooks.Event, incoming *T, stored *Row[T]) (*Version[T], error) {
	e.warnOfModes(ctx, incoming, stored)
	if err := stored.mayBecome(ev, e.rules.noun()); err != nil {
		return nil, err
	}
	switch fetched := ev.Current; {
	case fetched != nil && fetched.Token != tokenOf(stored):
		if e.isOf(stored, fetched) {
			return nil, nil
		}
		// The row was written after the request, so Stripe's response may be older than the row.
		return nil, e.refetch(ev, stored)
	case fetched != nil && fetched.Object != nil:
		return e.fromFetched(ctx, ev, incoming, stored)
	case fetched != nil: // Stripe refused it
	case e.needsFetch(ev) && stored.covers(ev):
		return nil, nil
	case e.needsFetch(ev), e.config.Refetch == RefetchAlways && ev.CanFetch():
		return nil, e.refetch(ev, stored)
	}
	if stored == nil {
		return FromEvent(ev, incoming), nil
	}
	switch stored.position(e.store.Head(incoming)) {
	case ordering.Newer:
		return FromEvent(ev, incoming), nil
	case ordering.SameSecond:
		return e.fromSameSecond(ctx, ev, stored)
	case ordering.Ambiguous:
		return e.fromAmbiguous(ctx, ev, incoming, stored)
	case ordering.Older:
	}
	return nil, nil
}

// fromAmbiguous returns the version after an event of the second in which the stored object was fetched, if Stripe does not return the
// object now: a deletion ends it.
func (e *Engine[T]) fromAmbiguous(ctx context.Context, ev *webhooks.Event, incoming *T, stored *Row[T]) (*Version[T], error) {
	switch {
	case e.mayRefetch(ev):
		return nil, e.refetch(ev, stored)
	case hasNoObject(ev) && strings.HasSuffix(ev.Type, ".deleted") && !stored.Ended:
		return FromEvent(ev, incoming), nil
	}
	e.breakTie(ctx, ev, "the stored object was fetched in the second of the event, so it is kept")
	if e.rules.Collect != nil && !bytes.Equal(e.store.Digest(incoming), stored.Digest) {
		return &Version[T]{State: e.store.Clone(stored.State), AsOf: stored.AsOf, APIVersion: stored.APIVersion, Doubt: incoming}, nil
	}
	return nil, nil
}

// isOf reports whether the row is of a response, which another event has stored already.
func (e *Engine[T]) isOf(stored *Row[T], fetched *webhooks.Current) bool {
	if stored == nil || stored.AsOf == nil || !stored.AsOf.Equal(fetched.AsOf) || fetched.Object == nil {
		return false
	}
	state, err := e.store.Decode(response(fetched.Object, fetched.APIVersion, stored.Account, stored.Livemode))
	return err == nil && bytes.Equal(e.store.Digest(state), stored.Digest)
}

// responseType is the type of an event that has an object of Stripe's response.
const responseType = "Stripe's response"

// response returns an event that has an object of Stripe's response.
func response(object []byte, apiVersion, account string, livemode bool) *webhooks.Event {
	return &webhooks.Event{Type: responseType, Object: object, APIVersion: apiVersion, Account: account, Livemode: livemode}
}

// fromSameSecond returns the version of the last event among those of the row's second, this event included.
func (e *Engine[T]) fromSameSecond(ctx context.Context, ev *webhooks.Event, stored *Row[T]) (*Version[T], error) {
	newest, err := stored.newest()
	if err != nil {
		return nil, err
	}
	newest = e.rules.Stepped(ordering.With(newest, occurrenceOf(ev)))
	winner, settled := e.rules.Last(newest)
	switch {
	case settled:
		e.chain.Add(1)
	case e.mayRefetch(ev):
		return nil, e.refetch(ev, stored)
	default:
		how := "the events of one second form no chain, so the event with the greatest id wins"
		if deletion, found := ordering.Deletion(newest); found && hasNoObject(ev) {
			winner, how = deletion, "Stripe does not return the object, so its deletion wins"
		}
		e.breakTie(ctx, ev, how)
	}
	of := *ev
	of.ID, of.Type, of.APIVersion, of.Object = winner.ID, winner.Type, winner.APIVersion, winner.Object
	state, err := e.store.Decode(&of)
	if err != nil {
		return nil, err
	}
	return &Version[T]{State: state, APIVersion: winner.APIVersion, Newest: newest}, nil
}

// hasNoObject reports whether the object was requested for the event and Stripe does not have it.
func hasNoObject(ev *webhooks.Event) bool { return ev.Current != nil && ev.Current.Missing }

// fromFetched returns the version of the object that was fetched from Stripe, or nil if that would bring an ended object back:
// such a response comes from a part of Stripe that lags behind.
func (e *Engine[T]) fromFetched(ctx context.Context, ev *webhooks.Event, incoming *T, stored *Row[T]) (*Version[T], error) {
	of := *ev
	of.Type, of.Object, of.APIVersion = responseType, ev.Current.Object, ev.Current.APIVersion
	state, err := e.store.Decode(&of)
	if err != nil {
		return nil, err
	}
	if !e.store.Head(state).Terminal {
		switch {
		case stored != nil && stored.Terminal:
			e.breakTie(ctx, ev, "Stripe's response is older than the end of the object, so the row is kept")
			return nil, nil
		case e.deniesEnd(ev):
			return nil, e.refetch(ev, stored)
		case !ev.Thin() && e.store.Head(incoming).Terminal:
			e.breakTie(ctx, ev, "Stripe's response is older than the end of the object, so the event's object is stored")
			return FromEvent(ev, incoming), nil
		}
	}
	e.refetched.Add(1)
	asOf := ev.Current.AsOf
	return &Version[T]{State: state, AsOf: &asOf, APIVersion: of.APIVersion}, nil
}

// deniesEnd reports whether Stripe's response, which has an object that has not ended, contradicts a thin event that says its end.
// The part of Stripe that answers lags behind, so it is fetched again, and the delivery is refused if that does not help.
func (e *Engine[T]) deniesEnd(ev *webhooks.Event) bool {
	return ev.Thin() && e.rules.Created != "" && strings.HasSuffix(ev.Type, ".deleted") && ev.Current.AsOf.Sub(ev.Created) < goneGrace
}

// needsFetch reports whether an event does not have the object, or not in a form that orders it.
func (e *Engine[T]) needsFetch(ev *webhooks.Event) bool {
	return ev.Thin() || e.rules.Collect != nil && e.mayRefetch(ev)
}

// mayRefetch reports whether the object can be fetched and has not been yet.
func (e *Engine[T]) mayRefetch(ev *webhooks.Event) bool {
	return e.rules.Path != "" && e.config.Refetch != RefetchNever && ev.Current == nil && ev.CanFetch()
}

// tokenOf returns the token of the row that a fetch is based on.
func tokenOf[T any](stored *Row[T]) string { return strconv.FormatInt(RevisionOf(stored), 10) }

// refetch requests the current object.
func (e *Engine[T]) refetch(ev *webhooks.Event, stored *Row[T]) error {
	return webhooks.Fetch(e.fetchOptions(ev, stored))
}

func (e *Engine[T]) fetchOptions(ev *webhooks.Event, stored *Row[T]) webhooks.FetchOptions {
	options := webhooks.FetchOptions{Token: tokenOf(stored), Lists: e.rules.Lists}
	if e.rules.Path != "" {
		options.Path = e.rules.location(e.rules.idOf(ev))
	}
	if e.rules.Collect != nil {
		options.Lists, options.List = nil, true
	}
	return options
}

func (e *Engine[T]) breakTie(ctx context.Context, ev *webhooks.Event, how string) {
	e.tieBreak.Add(1)
	e.config.Logger.WarnContext(ctx, "ambiguous order of an object's events", "event_id", ev.ID,
		"object_type", e.rules.Object, "object_id", e.rules.idOf(ev), "tie_break", how, "fix", e.fixOf(ev))
}

// fixOf says what would settle the order of an event that a tie-break has decided.
func (e *Engine[T]) fixOf(ev *webhooks.Event) string {
	switch fetched := ev.Current; {
	case fetched != nil && fetched.Missing:
		return "Stripe does not have the object: is the API key of this account? If the object was deleted, there is nothing to do"
	case fetched != nil && fetched.Object == nil:
		return "Stripe refuses the request for the object: permit the API key to read it"
	case fetched != nil || e.rules.Path == "":
		return "compare the object with Stripe: verify --fix"
	case e.config.Refetch == RefetchNever:
		return "do not set STRIPE_REFETCH (Refetch) to never: the object is then fetched from Stripe instead"
	}
	return "set STRIPE_API_KEY, to a key of the event's mode: the object is then fetched from Stripe instead"
}

// warnOfModes logs an id that occurs in both modes. Stripe's ids are unique across modes and accounts, and a table whose key is
// the id relies on that.
func (e *Engine[T]) warnOfModes(ctx context.Context, incoming *T, stored *Row[T]) {
	if stored == nil {
		return
	}
	if head := e.store.Head(incoming); stored.Livemode != head.Livemode {
		e.config.Logger.ErrorContext(ctx, "the same id exists in live mode and in test mode",
			"object_type", e.rules.Object, "object_id", head.ID, "stored_livemode", stored.Livemode, "event_livemode", head.Livemode)
	}
}
