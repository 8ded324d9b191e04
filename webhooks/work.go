package webhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pook/stripeonce/internal/fault"
)

// work is one event on its way through a delivery.
type work struct {
	delivered  *Event    // as it came
	recordedID string    // the id that it is recorded under if it takes effect
	handlers   []handler // what it runs; none: it is ignored
	asked      asking

	plain run // in place of an event's work: see InTx

	// replaysParked says that a person replays the event, so that it is applied although it is parked.
	replaysParked bool
	// parked is what a handler returned with Park. The event is then recorded, and of its handlers the projections run
	// alone; none, if it was one of them.
	parked           error
	projectionParked bool

	newConn  bool   // the last attempt's connection was opened for it, as far as is known
	rollBack func() // what is left of the transaction when the reply is out; nil: nothing
	endTurn  func() // lets the next event of the object begin, when the transaction has ended; nil: nobody waits

	committing atomic.Bool
}

// thinPrefix is what the type of a thin event about a v1 resource begins with.
const thinPrefix = "v1."

// newWork finds the functions that an event runs. A thin event runs those of its snapshot type, if its
// object can be had from Stripe.
func (r *Receiver) newWork(ev *Event) *work {
	own := *ev // not the caller's
	ev = &own
	ev.canAsk = keyFits(r.config.APIKey, ev.Livemode)
	w := &work{delivered: ev, recordedID: either(ev.snapshot, ev.ID)}
	otherMode := r.config.Mode == ModeLive && !ev.Livemode || r.config.Mode == ModeTest && ev.Livemode
	if otherMode || ev.thin && (!ev.canAsk || !strings.HasPrefix(ev.Type, thinPrefix)) {
		return w
	}
	w.handlers = r.handlers.match(w.snapshotType())
	return w
}

func (w *work) snapshotType() string {
	if w.delivered.thin {
		return strings.TrimPrefix(w.delivered.Type, thinPrefix)
	}
	return w.delivered.Type
}

// subject is the event as functions and ledger see it. A thin event that takes effect goes by its
// snapshot event's id and type, so that of the two only one does, and carries what Stripe answered.
func (w *work) subject() *Event {
	if !w.delivered.thin || len(w.handlers) == 0 {
		return w.delivered
	}
	ev := *w.delivered
	ev.Type = w.snapshotType()
	ev.ID = w.recordedID
	if w.asked.answer != nil {
		ev.Object, ev.APIVersion = w.asked.answer.Object, w.asked.answer.APIVersion
	}
	return &ev
}

// runsHost is true if the event runs a handler of the host's, which may outlast its context and change the session.
func (w *work) runsHost() bool {
	return w.plain != nil || slices.ContainsFunc(w.handlers, func(h handler) bool { return !h.heeds })
}

// runs is true if the event runs a handler: where one has parked it, the projections alone.
func (w *work) runs(h handler) bool {
	return w.parked == nil || h.projection && !w.projectionParked
}

func (w *work) result(outcome Outcome) Result { return Result{w.subject().ID, outcome} }

// lacksObject is true for a thin event before Stripe has been asked.
func (w *work) lacksObject() bool { return w.delivered.thin && w.asked.answer == nil }

// asking is what has been asked and answered in the course of one delivery.
type asking struct {
	questions map[int]*askError // by handler
	answer    *Current
	times     int
}

// current is the answer for the function that asked.
func (a *asking) current(handler int) *Current {
	question := a.questions[handler]
	if a.answer == nil || question == nil {
		return nil
	}
	answer := *a.answer
	answer.Token = question.Token
	return &answer
}

// nobody asks for a thin event's object if no function does.
const nobody = -1

// ofHandler notes which of the event's handlers asks Stripe, or which kind of handler parks the event.
func ofHandler(i int, h handler, err error) error {
	var question *askError
	if errors.As(err, &question) {
		return &askError{question.AskOptions, i}
	}
	if errors.As(err, new(*parkError)) {
		return &ranError{err, h.projection}
	}
	return err
}

// ask has Stripe's current object fetched. A thin event whose object Stripe does not have is ignored.
func (r *Receiver) ask(ctx context.Context, w *work, question *askError) error {
	ev := w.delivered
	if !ev.canAsk {
		return fault.InHandler(ev.Type, errors.New("it asks Stripe, but there is no API key for the event's mode: set Config.APIKey"))
	}
	if w.asked.times++; w.asked.times > maxAsks {
		return fmt.Errorf("%w: the object changed each of the %d times that Stripe was asked for it", ErrUnavailable, maxAsks)
	}
	path := question.Path
	if path == "" || ev.thin {
		var err error
		if path, err = ev.objectPath(); err != nil {
			return err
		}
	}
	answer, err := r.fetch(ctx, ev, path, either(question.APIVersion, ev.APIVersion))
	if err != nil {
		return err
	}
	if ev.thin && answer.Object == nil {
		w.handlers = nil
	}
	if w.asked.questions == nil {
		w.asked.questions = map[int]*askError{}
	}
	w.asked.questions[question.handler] = question
	w.asked.answer = answer
	return nil
}
