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

// What is unavailable is tried again: a deploy, a database that is switching over.
const (
	applyAttempts = 5
	applyPause    = 250 * time.Millisecond // after the first try; it doubles
)

// Applier makes an event take effect as a delivery of it would. A *webhooks.Receiver is one. If it has the
// methods Types and Handles of a Receiver, Reconcile asks Stripe only for what it handles.
type Applier interface {
	Apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error)
}

// replaying is what a Receiver and a Remote can do for a person beside Apply: apply an event that is parked.
type replaying interface {
	Replay(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error)
}

// handling is what a Receiver can say of its functions.
type handling interface {
	Types() []string
	Handles(ev *webhooks.Event) bool
}

// Remote applies events by delivering them, signed, to a receiver that runs elsewhere.
type Remote struct {
	url    string // for errors
	sender *delivery.Sender
}

// NewRemote makes a Remote that posts to a URL and signs with a secret of that receiver's.
func NewRemote(url, secret string) *Remote {
	return &Remote{url: redacted(url), sender: delivery.NewSender(url, secret, 1)}
}

// redacted is a URL without the password that may be in it.
func redacted(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Redacted()
	}
	return address
}

// Apply delivers the event, which must have been made by ParseEvent. The error wraps
// webhooks.ErrUnavailable if there was no answer, or a 503.
func (r *Remote) Apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	return r.result(r.sender.Send(ctx, ev.Payload()))
}

// Replay is Apply for an event that may be parked.
func (r *Remote) Replay(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	return r.result(r.sender.Replay(ctx, ev.Payload()))
}

func (r *Remote) result(reply delivery.Reply, err error) (webhooks.Result, error) {
	if err != nil {
		return webhooks.Result{}, fmt.Errorf("%w: no answer: %w: is a receiver running there?", webhooks.ErrUnavailable, err)
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
		return webhooks.Result{}, fmt.Errorf("the answer is not a receiver's: %s: is it the URL of the route?", reply)
	}
	return result, nil
}

// apply is Apply, retried while the receiver is unavailable.
func (o *Operator) apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	return retryUnavailable(ctx, ev, o.config.Applier.Apply)
}

func retryUnavailable(ctx context.Context, ev *webhooks.Event, apply func(context.Context, *webhooks.Event) (webhooks.Result, error)) (webhooks.Result, error) {
	for try := 1; ; try++ {
		result, err := apply(ctx, ev)
		if !errors.Is(err, webhooks.ErrUnavailable) || try == applyAttempts {
			return result, err
		}
		select {
		case <-time.After(applyPause << (try - 1)):
		case <-ctx.Done():
			return webhooks.Result{}, ctx.Err()
		}
	}
}
