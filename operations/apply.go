package operations

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/webhooks"
)

// An unavailable receiver is retried: it may be in the middle of a deploy, or its database of a failover.
const (
	applyAttempts = 5
	applyPause    = 250 * time.Millisecond // after the first attempt; doubles after each further one
)

// Applier applies an event as a delivery would. A *webhooks.Receiver is an Applier. If it has the methods Types and Handles
// of a Receiver, Reconcile lists only the events that it handles.
type Applier interface {
	Apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error)
}

// replayer applies events that may be parked. A Receiver and a Remote are replayers.
type replayer interface {
	Replay(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error)
}

// typed is an Applier that knows its handlers, as a Receiver does.
type typed interface {
	Types() []string
	Handles(ev *webhooks.Event) bool
}

// Remote applies events by delivering them, signed, to a remote receiver.
type Remote struct {
	url    string // for errors
	sender *delivery.Sender
}

// NewRemote returns a Remote that posts to the receiver's URL and signs with one of its secrets.
func NewRemote(url, secret string) *Remote {
	return &Remote{url: redacted(url), sender: delivery.NewSender(url, secret, 1)}
}

// redacted returns a URL without its password.
func redacted(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Redacted()
	}
	return address
}

// Apply delivers the event, which must come from webhooks.ParseEvent. The error wraps webhooks.ErrUnavailable if the
// receiver did not respond or responded with 503.
func (r *Remote) Apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	return r.result(r.sender.Send(ctx, ev.Payload()))
}

// Replay is Apply for an event that may be parked.
func (r *Remote) Replay(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	return r.result(r.sender.Replay(ctx, ev.Payload()))
}

func (r *Remote) result(reply delivery.Reply, err error) (webhooks.Result, error) {
	if err != nil {
		return webhooks.Result{}, fmt.Errorf("%w: no response: %w: is a receiver running there?", webhooks.ErrUnavailable, err)
	}
	var result webhooks.Result
	switch err := json.Unmarshal(reply.Body, &result); {
	case reply.Status == http.StatusServiceUnavailable:
		return webhooks.Result{}, fmt.Errorf("%w: the receiver answers %s", webhooks.ErrUnavailable, reply)
	case reply.Status == http.StatusBadRequest && bytes.Contains(reply.Body, []byte("signature")):
		return webhooks.Result{}, fmt.Errorf("the receiver answers %s: is the signing secret (STRIPE_WEBHOOK_SECRET) one of that receiver's?", reply)
	case reply.Status == http.StatusNotFound || reply.Status == http.StatusMethodNotAllowed:
		return webhooks.Result{}, fmt.Errorf("%s answers %d: is it the URL of the route?", r.url, reply.Status)
	case !reply.OK():
		return webhooks.Result{}, fmt.Errorf("the receiver answers %s", reply)
	case err != nil || result.Outcome == "":
		return webhooks.Result{}, fmt.Errorf("the response does not come from a receiver: %s: is it the URL of the route?", reply)
	}
	return result, nil
}

// apply is Apply, retried while the receiver is unavailable.
func (o *Operator) apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	return retryUnavailable(ctx, ev, o.config.Applier.Apply)
}

func retryUnavailable(ctx context.Context, ev *webhooks.Event, apply func(context.Context, *webhooks.Event) (webhooks.Result, error)) (webhooks.Result, error) {
	for attempt := 1; ; attempt++ {
		result, err := apply(ctx, ev)
		if !errors.Is(err, webhooks.ErrUnavailable) || attempt == applyAttempts {
			return result, err
		}
		select {
		case <-time.After(applyPause << (attempt - 1)):
		case <-ctx.Done():
			return webhooks.Result{}, ctx.Err()
		}
	}
}
