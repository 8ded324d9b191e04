package webhooks

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/projection"
)

// call runs one of the delivery's handlers.
func (t *transaction) call(ctx context.Context, d *delivery, i int) (changed bool, err error) {
	h := d.handlers[i]
	if h.plan != nil {
		return t.callProjection(ctx, d, d.plans[i], h)
	}
	return t.callHost(ctx, d, h, d.eventFor(i))
}

// callHost runs a handler of the host's. It may look at what those before it have written, and afterwards the session must
// be restored.
func (t *transaction) callHost(ctx context.Context, d *delivery, h handler, ev *Event) (changed bool, err error) {
	d.handling, d.inHost = true, true
	ctx = t.traceHandler(ctx, d, h)
	defer func() {
		if d.inHost { // it has ended its goroutine
			err = errGoexit
		}
		t.endHandler(ctx, d, err)
	}()
	began := time.Now()
	used, err := t.pipe.Run(ctx, false, &d.writes, func(ctx context.Context, tx pgx.Tx) (err error) {
		defer d.held.run()()
		changed, err = h.run(ctx, tx, ev)
		return err
	})
	d.inHost = false
	if used {
		t.pipe.Prepend(t.restoreSession)
	}
	if own := (*pgpipe.OwnError)(nil); errors.As(err, &own) {
		return false, own.Err
	}
	d.handlerRan = true
	d.clock(began)
	if err != nil {
		return false, fault.InHandler(ev.Type, err)
	}
	return changed, nil
}

// callProjection runs a projection, whose queries are the receiver's own. It may call a handler of the host's.
func (t *transaction) callProjection(ctx context.Context, d *delivery, plan projection.Plan, h handler) (changed bool, err error) {
	if !h.honorsContext {
		defer d.clock(time.Now())
	}
	apply := func(ctx context.Context, tx pgx.Tx) (err error) {
		defer d.held.run()()
		changed, err = plan.Apply(t.withHook(ctx, d, h), tx, &d.writes)
		return err
	}
	var used bool
	if d.refusing != nil {
		err = d.refusing.Run(ctx, apply)
	} else {
		used, err = t.pipe.Run(ctx, true, &d.writes, apply)
	}
	if err != nil {
		return false, t.projectionError(ctx, d.effective.Type, err)
	}
	if !h.honorsContext {
		d.handlerRan = true
		if used {
			t.pipe.Prepend(t.restoreSession)
		}
	}
	return changed, nil
}

// clock adds up how long handlers of the host's take.
func (d *delivery) clock(began time.Time) { d.handlersTook += time.Since(began) }

// projectionError tells an error of the projection itself, which is the event's failure (it cannot read the object, it
// panics, the host's handler in it failed), from an error of a query, which fault.Classify looks at.
func (t *transaction) projectionError(ctx context.Context, eventType string, err error) error {
	if own := (*pgpipe.OwnError)(nil); errors.As(err, &own) {
		return own.Err
	}
	own := fault.IsHandler(err) || errors.As(err, new(*PanicError)) || pgpipe.IsViolation(err)
	if !own && (errors.Is(err, ErrUnavailable) || fault.Code(err) != "" || ctx.Err() != nil || t.pipe.Conn().IsClosed()) {
		return err
	}
	return fault.InHandler(eventType, err)
}
