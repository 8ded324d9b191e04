package subscriptions

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/pook/stripeonce/webhooks"
)

// next returns the version that the row becomes by an event, or nil if the row stays as it is. The event's list of items may
// go on (has_more): then the object is fetched with all of them.
func (p *Projection) next(ctx context.Context, ev *webhooks.Event, incoming *Subscription, stored *storedRow) (*version, error) {
	next, err := p.nextOf(ctx, ev, incoming, stored)
	if err == nil && next != nil && !next.sub.ItemsComplete && p.mayRefetch(ev) {
		options := fetchOptions(ev, stored)
		options.Optional = true
		return nil, webhooks.Fetch(options)
	}
	return next, err
}

func (p *Projection) nextOf(ctx context.Context, ev *webhooks.Event, incoming *Subscription, stored *storedRow) (*version, error) {
	p.warnOfModes(ctx, incoming, stored)
	if err := stored.mayBecome(ev); err != nil {
		return nil, err
	}
	if fetched := ev.Current; fetched != nil {
		if fetched.Token != tokenOf(stored) {
			if stored.isOf(fetched) {
				return nil, nil
			}
			// The row was written after the request, so Stripe's response may be older than the row.
			return nil, refetch(ev, stored)
		}
		if fetched.Object != nil {
			return p.fromFetched(ctx, ev, stored)
		}
	} else if ev.Thin() && stored.covers(ev) {
		return nil, nil
	} else if ev.Thin() || p.config.Refetch == RefetchAlways && ev.CanFetch() {
		return nil, refetch(ev, stored)
	}
	if stored == nil {
		return fromEvent(ev, incoming), nil
	}
	switch compare(incoming, stored) {
	case orderNewer:
		return fromEvent(ev, incoming), nil
	case orderSameSecond:
		return p.fromSameSecond(ctx, ev, stored)
	case orderAmbiguous:
		if p.mayRefetch(ev) {
			return nil, refetch(ev, stored)
		}
		p.breakTie(ctx, ev, "the stored object was fetched in the second of the event, so it is kept")
	case orderOlder:
	}
	return nil, nil
}

// mayBecome refuses an event of another account than the row's. Stripe's ids are unique across accounts, so such an event was
// made up by somebody who has a signing secret, or an account is not told apart. A row of the time before Config.AccountID was
// set has no account, and gets the receiver's own.
func (s *storedRow) mayBecome(ev *webhooks.Event) error {
	if s == nil || s.AccountID == ev.Account || s.AccountID == "" && ev.OwnAccount() {
		return nil
	}
	return fmt.Errorf("subscription %s is of account %q, and the event of account %q: it changes nothing", s.ID, s.AccountID, ev.Account)
}

// covers reports whether the row is of a response that Stripe gave after the event, so that the event's change is in it.
func (s *storedRow) covers(ev *webhooks.Event) bool {
	return s != nil && s.asOf != nil && !ev.Created.IsZero() && compareAsOf(createdAt(ev), *s.asOf) == orderOlder
}

// isOf reports whether the row is of a response, which another event has stored already.
func (s *storedRow) isOf(fetched *webhooks.Current) bool {
	if s == nil || s.asOf == nil || !s.asOf.Equal(fetched.AsOf) || fetched.Object == nil {
		return false
	}
	sub, err := decode(&webhooks.Event{Type: "Stripe's response", Object: fetched.Object, APIVersion: fetched.APIVersion, Account: s.AccountID})
	return err == nil && digestOf(sub).equal(s.digest)
}

// fromEvent returns the version of an event that is newer than the row.
func fromEvent(ev *webhooks.Event, incoming *Subscription) *version {
	return &version{sub: incoming, apiVersion: ev.APIVersion, newest: []occurrence{occurrenceOf(ev)}}
}

func occurrenceOf(ev *webhooks.Event) occurrence {
	return occurrence{ID: ev.ID, Type: ev.Type, APIVersion: ev.APIVersion, Object: ev.Object, Previous: ev.Previous}
}

// fromSameSecond returns the version of the last event among those of the row's second, this event included.
func (p *Projection) fromSameSecond(ctx context.Context, ev *webhooks.Event, stored *storedRow) (*version, error) {
	newest, err := stored.newest()
	if err != nil {
		return nil, err
	}
	newest = with(newest, occurrenceOf(ev))
	winner, settled := last(newest)
	switch {
	case settled:
		p.chain.Add(1)
	case p.mayRefetch(ev):
		return nil, refetch(ev, stored)
	default:
		p.breakTie(ctx, ev, "the events of one second form no chain, so the event with the greatest id wins")
	}
	of := *ev
	of.ID, of.Type, of.APIVersion, of.Object = winner.ID, winner.Type, winner.APIVersion, winner.Object
	sub, err := decode(&of)
	if err != nil {
		return nil, err
	}
	return &version{sub: sub, apiVersion: winner.APIVersion, newest: newest}, nil
}

// fromFetched returns the version of the object that was fetched from Stripe, or nil if that would bring an ended
// subscription back: such a response comes from a part of Stripe that lags behind.
func (p *Projection) fromFetched(ctx context.Context, ev *webhooks.Event, stored *storedRow) (*version, error) {
	of := *ev
	of.Object, of.APIVersion = ev.Current.Object, ev.Current.APIVersion
	sub, err := decode(&of)
	if err != nil {
		return nil, err
	}
	if stored != nil && stored.Status.Terminal() && !sub.Status.Terminal() {
		p.breakTie(ctx, ev, "Stripe's response is older than the end of the subscription, so the row is kept")
		return nil, nil
	}
	p.refetched.Add(1)
	asOf := ev.Current.AsOf
	return &version{sub: sub, asOf: &asOf, apiVersion: of.APIVersion}, nil
}

// mayRefetch reports whether the object can be fetched and has not been yet.
func (p *Projection) mayRefetch(ev *webhooks.Event) bool {
	return p.config.Refetch != RefetchNever && ev.Current == nil && ev.CanFetch()
}

// tokenOf returns the token of the row that a fetch is based on.
func tokenOf(stored *storedRow) string { return strconv.FormatInt(revisionOf(stored), 10) }

// refetch requests the current object.
func refetch(ev *webhooks.Event, stored *storedRow) error {
	return webhooks.Fetch(fetchOptions(ev, stored))
}

func fetchOptions(ev *webhooks.Event, stored *storedRow) webhooks.FetchOptions {
	return webhooks.FetchOptions{
		Token: tokenOf(stored), Path: "/v1/subscriptions/" + url.PathEscape(ev.ObjectID()), Lists: lists,
	}
}

// lists are the members of a subscription that are lists.
var lists = []string{"items"}

func (p *Projection) breakTie(ctx context.Context, ev *webhooks.Event, how string) {
	p.tieBreak.Add(1)
	p.config.Logger.WarnContext(ctx, "ambiguous order of a subscription's events", "event_id", ev.ID,
		"subscription", ev.ObjectID(), "tie_break", how, "fix", "set STRIPE_API_KEY: the subscription is then fetched from Stripe instead")
}

// warnOfModes logs an id that occurs in both modes. Stripe's ids are unique across modes and accounts, and the tables
// rely on that.
func (p *Projection) warnOfModes(ctx context.Context, incoming *Subscription, stored *storedRow) {
	if stored != nil && stored.Livemode != incoming.Livemode {
		p.config.Logger.ErrorContext(ctx, "one subscription id in live mode and in test mode",
			"subscription", incoming.ID, "stored_livemode", stored.Livemode, "event_livemode", incoming.Livemode)
	}
}
