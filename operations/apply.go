package operations

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/webhooks"
)

// An unavailable receiver is retried: it may be in the middle of a deploy, or its database of a failover. One that refuses the
// connection is retried once.
const (
	applyAttempts = 5
	applyPause    = 250 * time.Millisecond // after the first attempt; doubles after each further one
	// slowResponse is how long a remote receiver may take for a response until a warning says that it is waited for.
	slowResponse = 3 * time.Second
)

// ErrReceiver reports that events cannot be applied because of the receiver, and not because of an event: it refuses the connection, it
// rejects the signature, its URL is not that of a receiver, or it stays unavailable. ReplayAll, ReplayEvents and Reconcile stop there.
var ErrReceiver = errors.New("the receiver cannot apply events")

// receiverError is an ErrReceiver with the reason, and what to do.
type receiverError struct {
	text  string
	cause error // nil, or one that wraps webhooks.ErrUnavailable: it may pass
}

func (e *receiverError) Error() string        { return e.text }
func (e *receiverError) Is(target error) bool { return target == ErrReceiver }
func (e *receiverError) Unwrap() error        { return e.cause }

// Applier applies an event as a delivery would. A *webhooks.Receiver and a *Remote are Appliers. An Applier of your own may have further
// methods of a Receiver: with Types and Handles, Reconcile lists only the events that it handles; with Replay, parked events can be
// replayed.
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
// receiver did not respond, or responded that it is unavailable. It wraps ErrReceiver if no event can be delivered.
func (r *Remote) Apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	return r.result(r.sender.Send(ctx, ev.Payload()))
}

// Replay is Apply for an event that may be parked.
func (r *Remote) Replay(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	return r.result(r.sender.Replay(ctx, ev.Payload()))
}

func (r *Remote) result(reply delivery.Reply, err error) (webhooks.Result, error) {
	if err != nil {
		return webhooks.Result{}, r.noResponse(err)
	}
	var answer struct {
		webhooks.Result
		Error string `json:"error"`
	}
	_ = json.Unmarshal(reply.Body, &answer)
	switch reply.Status {
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusTooManyRequests: // also of a proxy before it
		return webhooks.Result{}, fmt.Errorf("%w: the receiver answers %s", webhooks.ErrUnavailable, reply)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return webhooks.Result{}, r.fault("%s answers %s: is it the URL of the route (--to)?", r.url, reply)
	}
	foreign := reply.OK() && answer.Outcome == "" || reply.Status/100 == 3 ||
		reply.Status/100 == 4 && answer.Error == "" && reply.Status != http.StatusRequestEntityTooLarge
	switch {
	case foreign:
		return webhooks.Result{}, r.fault("the response does not come from a receiver: %s answers %s: is it the URL of the route (--to)?", r.url, reply)
	case reply.Status == http.StatusBadRequest && strings.Contains(answer.Error, "signature"):
		return webhooks.Result{}, r.fault("the receiver at %s rejects the signature: it answers %s: "+
			"is the signing secret (STRIPE_WEBHOOK_SECRET) one of that receiver's?", r.url, reply)
	case !reply.OK():
		return webhooks.Result{}, fmt.Errorf("the receiver answers %s", reply)
	}
	return answer.Result, nil
}

// noResponse returns the error of a request without a response.
func (r *Remote) noResponse(err error) error {
	var lookup *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		cause := fmt.Errorf("%w: %w", webhooks.ErrUnavailable, err)
		return &receiverError{fmt.Sprintf("no receiver answers at %s: connection refused: start it, or correct its URL (--to)", r.url), cause}
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return r.fault("the host of %s is not known: %v: correct the receiver's URL (--to)", r.url, lookup)
	case errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(tls.RecordHeaderError)), errors.Is(err, http.ErrSchemeMismatch):
		return r.fault("no TLS connection to %s: %v: correct the receiver's URL (--to), or its certificate", r.url, errors.Unwrap(err))
	}
	return fmt.Errorf("%w: no response from %s: %w", webhooks.ErrUnavailable, r.url, cmp.Or(errors.Unwrap(err), err))
}

func (r *Remote) fault(format string, args ...any) error {
	return &receiverError{text: fmt.Sprintf(format, args...)}
}

// apply is Apply, retried while the receiver is unavailable.
func (o *Operator) apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	return o.retryUnavailable(ctx, ev, o.config.Applier.Apply)
}

type applyFunc func(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error)

func (o *Operator) retryUnavailable(ctx context.Context, ev *webhooks.Event, apply applyFunc) (webhooks.Result, error) {
	refused, failures := 0, 0
	for attempt := 1; ; attempt++ {
		result, err := o.attempt(ctx, ev, attempt, apply)
		if errors.Is(err, ErrReceiver) {
			refused++
		}
		switch {
		case !errors.Is(err, webhooks.ErrUnavailable), refused == 2:
			return result, err
		case attempt == applyAttempts:
			return result, o.staysUnavailable(ctx, ev, failures, err)
		case attempt == 1:
			failures = o.failuresOf(ctx, ev)
		}
		select {
		case <-time.After(applyPause << (attempt - 1)):
		case <-ctx.Done():
			return webhooks.Result{}, ctx.Err()
		}
	}
}

// attempt applies an event once. It warns of a remote receiver that takes long to respond.
func (o *Operator) attempt(ctx context.Context, ev *webhooks.Event, attempt int, apply applyFunc) (webhooks.Result, error) {
	if to, remote := o.config.Applier.(*Remote); remote {
		slow := time.AfterFunc(slowResponse, func() {
			o.config.Logger.WarnContext(ctx, "waiting for the receiver's response", "event_id", ev.ID, "url", to.url,
				"timeout", delivery.DefaultTimeout, "attempt", attempt, "attempts", applyAttempts)
		})
		defer slow.Stop()
	}
	return apply(ctx, ev)
}

// staysUnavailable returns the error of an event for which the receiver was unavailable in all attempts. That is the event's own
// failure if these left a failure record: an API key that may not read a thin event's object. A thin event may also be waiting for its
// object alone, so only the run knows more (stopper).
func (o *Operator) staysUnavailable(ctx context.Context, ev *webhooks.Event, before int, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case o.failuresOf(ctx, ev) > before:
		return fmt.Errorf("%v", err) //nolint:errorlint // it is not the receiver that is unavailable
	case ev.Thin():
		return err
	}
	return stayedUnavailable(err)
}

func stayedUnavailable(err error) error {
	return &receiverError{fmt.Sprintf("the receiver stays unavailable: %v: resolve that first", err), err}
}

// failuresOf returns how often an event has failed; 0 if that is not known.
func (o *Operator) failuresOf(ctx context.Context, ev *webhooks.Event) int {
	failure, err := o.failure(ctx, cmp.Or(ev.SnapshotEventID(), ev.ID))
	if err != nil {
		return 0
	}
	return int(failure.Attempts)
}

// stopper decides whether a run goes on after an event.
type stopper struct{ unavailable bool }

// stops returns an error that wraps ErrReceiver if the run is to stop after an event with this error: because of the receiver, or if
// it was unavailable for two events in a row.
func (s *stopper) stops(err error) error {
	before := s.unavailable
	s.unavailable = errors.Is(err, webhooks.ErrUnavailable)
	switch {
	case errors.Is(err, ErrReceiver):
		return err
	case before && s.unavailable:
		return stayedUnavailable(err)
	}
	return nil
}
