package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/pook/stripeonce/internal/stripeapi"
)

// What a thin event does not say is learned before its handlers run, from the event itself and from its snapshot event.

// lacksMembers reports whether a thin event came without a member that decides what happens: snapshot_event, or the data of a
// HealthEvent. Stripe documents these as members of the event, but the notification may lack them.
func (ev *Event) lacksMembers() bool {
	return ev.thin && (ev.aboutV1() && !ev.names || ev.Type == HealthEvent && ev.impact.eventType == "")
}

// ObjectInSnapshot reports whether a thin event names no object, since that has no id: an upcoming invoice, or a summary of
// entitlements. Its snapshot event has the object, and is fetched before any handler runs.
func (ev *Event) ObjectInSnapshot() bool {
	return ev.namesNoObject() && (ev.snapshot != "" || ev.lacksMembers())
}

func (ev *Event) namesNoObject() bool { return ev.thin && ev.aboutV1() && ev.related.url == "" }

// learn fetches what a thin event lacks. A duplicate needs no request.
func (r *Receiver) learn(ctx context.Context, d *delivery) error {
	ev := d.received
	if ev.namesNoObject() && !ev.ObjectInSnapshot() {
		r.warnOfNoObject(ctx, ev)
	}
	if !ev.lacksMembers() && !ev.ObjectInSnapshot() || !ev.canFetch || !d.takesEffect() {
		return nil
	}
	if d.reprocess == nil {
		if duplicate, err := r.isKnown(ctx, d); duplicate || err != nil {
			return err
		}
	}
	if ev.lacksMembers() {
		if err := r.learnMembers(ctx, d); err != nil {
			return err
		}
	}
	if ev.ObjectInSnapshot() && d.takesEffect() {
		return r.learnSnapshot(ctx, d)
	}
	return nil
}

// isKnown reports whether the ledger has the event, under its own id or its twin's if this process has learned it before.
func (r *Receiver) isKnown(ctx context.Context, d *delivery) (duplicate bool, err error) {
	if twin := r.twins.Of(d.received.ID); twin != "" {
		d.received.snapshot = twin
		d.asSnapshot()
	}
	return r.lookup(ctx, d)
}

// learnMembers fetches the event itself. The id of the snapshot event is the key of both in the ledger.
func (r *Receiver) learnMembers(ctx context.Context, d *delivery) error {
	ev := d.received
	whole, err := r.fetchEvent(ctx, d, "/v2/core/events/", ev.ID)
	if whole == nil || err != nil {
		return err
	}
	ev.snapshot, ev.names, ev.whole, ev.impact = whole.snapshot, true, true, whole.impact
	if ev.Previous == nil {
		ev.Previous = whole.Previous
	}
	if ev.related.url == "" {
		ev.related, ev.Object = whole.related, whole.Object
	}
	if ev.context == "" && ev.Account == r.config.AccountID {
		ev.context, ev.Account = whole.context, whole.Account
		r.stamp(ev)
	}
	d.asSnapshot()
	d.handlers = r.handlers.of(d)
	d.learned = true
	if ev.snapshot != "" {
		r.twins.Add(ev.ID, ev.snapshot)
	}
	if ev.namesNoObject() && ev.snapshot == "" {
		r.warnOfNoObject(ctx, ev)
	}
	return nil
}

// learnSnapshot fetches the snapshot event, which then takes effect in place of the thin one.
func (r *Receiver) learnSnapshot(ctx context.Context, d *delivery) error {
	ev := d.received
	snapshot, err := r.fetchEvent(ctx, d, "/v1/events/", ev.snapshot)
	if snapshot == nil || err != nil {
		return err
	}
	snapshot.Account, snapshot.context, snapshot.tenant, snapshot.own, snapshot.canFetch = ev.Account, ev.context, ev.tenant, ev.own, ev.canFetch
	d.effective = snapshot
	d.handlers = r.handlers.of(d)
	d.learned = true
	return nil
}

// fetchEvent fetches an event. It returns nil if Stripe does not have it, and the delivery is ignored. An event never changes, so
// that concurrent duplicates share any request.
func (r *Receiver) fetchEvent(ctx context.Context, d *delivery, list, id string) (*Event, error) {
	path := list + url.PathEscape(id)
	asked := r.request(d.received, path, "")
	step := r.traceFetch(ctx, d.received, path)
	answer, _, err := r.fetches.do(step, keyOf(&asked, nil), time.Time{}, "", func() (*Current, error) {
		response, err := r.ask(step, d.received, path, "")
		if err != nil {
			return nil, err
		}
		return &Current{Object: response.Body}, nil
	})
	r.traceEnd(step, TraceEnd{Step: StepFetch, Err: err, Status: stripeapi.Status(err)})
	switch {
	case stripeapi.IsMissing(err):
		return nil, r.ignoreMissing(ctx, d, path, err)
	case err != nil:
		return nil, unanswered(path, err)
	}
	ev, err := ParseEvent(answer.Object)
	if err == nil && ev.ID != id {
		err = errors.New("its id differs")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: Stripe's response for %s is not the event: %w", ErrUnavailable, path, err)
	}
	return ev, nil
}

// warnOfNoObject warns of a thin event whose object cannot be known, so that no projection can apply it.
func (r *Receiver) warnOfNoObject(ctx context.Context, ev *Event) {
	r.stats.missingObjects.Add(1)
	r.config.Logger.WarnContext(ctx, "a thin event names neither an object nor a snapshot event: projections ignore it",
		"event_id", ev.ID, "event_type", ev.Type, "account_id", ev.Account, "fix", "compare the tables with Stripe: verify --fix")
}
