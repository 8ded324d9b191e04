package console

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pook/stripeonce/operations"
)

const reprocessPath = "/events/{id}/reprocess"

// maxReason is how long a reason may be.
const maxReason = 500

// The results of what an event's page starts, in its query parameter "done".
const (
	doneReprocessed = "reprocessed"
	doneSkipped     = "skipped"
	doneDismissed   = "dismissed"
)

// reprocessData is what the confirmation shows before an event is reprocessed.
type reprocessData struct {
	ID       string
	Event    *operations.Event
	Receiver string
	Handlers []string // that On registered for the event
	Hooks    []string // the OnChange of projections
	Problem  string   // why nothing can run; empty: it can
	Failed   string   // the error of the attempt before
	Reason   string   // of that attempt
}

// confirmReprocess names the handlers that run if an event that took effect is reprocessed.
func (c *Console) confirmReprocess(r *request) (*page, error) {
	if c.readOnly(r.Request) {
		return nil, errReadOnly
	}
	return c.reprocessPage(r, &reprocessData{})
}

func (c *Console) reprocessPage(r *request, d *reprocessData) (*page, error) {
	id := r.PathValue("id")
	detail, err := c.operator.EventDetail(r.ctx, id)
	if err != nil {
		return nil, err
	}
	if !reprocessable(detail) {
		return nil, errNotFound
	}
	d.ID, d.Event, d.Receiver = id, detail.Event, c.receiver.Name()
	dry := func(hooks bool) (handlers []string) {
		_, err := c.operator.Reprocess(r.ctx, operations.ReprocessOptions{
			Events: []string{id}, Hooks: hooks, Again: true, DryRun: true, Each: func(e operations.ReprocessedEvent) {
				handlers = e.Handlers
				if e.Err != nil && hooks {
					d.Problem = e.Err.Error()
				}
			},
		})
		if err != nil {
			d.Problem = err.Error()
		}
		return handlers
	}
	d.Handlers = dry(false)
	for _, name := range dry(true) {
		if strings.HasSuffix(name, ".OnChange") {
			d.Hooks = append(d.Hooks, name)
		}
	}
	return &page{Title: "Reprocess " + id, Template: "reprocess", Data: d}, nil
}

// reprocessable reports whether an event took effect.
func reprocessable(detail *operations.EventDetail) bool {
	return detail.Event != nil && detail.Event.Outcome != "ignored" && detail.Event.Outcome != "parked"
}

// reprocess runs the handlers of an event once more, and redirects to the event's page. If that fails, the confirmation shows why.
func (c *Console) reprocess(w http.ResponseWriter, r *request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), backgroundTimeout)
	defer cancel()
	r.ctx = ctx
	id := r.PathValue("id")
	reason, ok := c.reasonOf(w, r)
	if !ok {
		return
	}
	var result operations.ReprocessedEvent
	options := operations.ReprocessOptions{
		Events: []string{id}, Handler: r.PostFormValue("handler"), Hooks: r.PostFormValue("hooks") != "", Again: r.PostFormValue("again") != "",
		Each: func(e operations.ReprocessedEvent) { result = e },
	}
	if count, err := strconv.Atoi(r.PostFormValue("count")); err == nil {
		options.Count = &count
	}
	operator := c.operatorOf(r.Request, reason, c.config.Timeout)
	err := c.inSlot(ctx, func() error {
		_, err := operator.Reprocess(ctx, options)
		return err
	})
	if err == nil {
		err = result.Err
	}
	if err != nil {
		c.config.Logger.WarnContext(ctx, "console: reprocess failed", "event_id", id, "error", err)
		c.showAgain(w, r, &reprocessData{Failed: err.Error(), Reason: reason})
		return
	}
	done := doneReprocessed
	if result.Earlier != nil || result.Outcome == "duplicate" {
		done = doneSkipped
	}
	c.config.Logger.InfoContext(ctx, "console: event reprocessed", "event_id", id, "outcome", done)
	c.toEvent(w, r, done)
}

func (c *Console) showAgain(w http.ResponseWriter, r *request, d *reprocessData) {
	p, err := c.reprocessPage(r, d)
	status := http.StatusOK
	if err != nil {
		status, p = c.failed(r, err)
	}
	c.show(w, r, "/events", status, p)
}

// dismiss records that a failed event need not be applied, and redirects to its page.
func (c *Console) dismiss(w http.ResponseWriter, r *request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), c.config.Timeout)
	defer cancel()
	r.ctx = ctx
	reason, ok := c.reasonOf(w, r)
	if !ok {
		return
	}
	id := r.PathValue("id")
	if err := c.operatorOf(r.Request, reason, c.config.Timeout).Dismiss(ctx, id, reason); err != nil {
		c.config.Logger.WarnContext(ctx, "console: dismiss failed", "event_id", id, "error", err)
		c.show(w, r, "/events", http.StatusConflict, &page{
			Title: "Not dismissed", Template: "problem", Data: problem{What: "The event was not dismissed: " + err.Error(), Fix: "Open the event's page to see its current state."},
		})
		return
	}
	c.config.Logger.InfoContext(ctx, "console: event dismissed", "event_id", id)
	c.toEvent(w, r, doneDismissed)
}

// reasonOf returns the reason of a form. It answers a form without one.
func (c *Console) reasonOf(w http.ResponseWriter, r *request) (reason string, ok bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if reason = strings.TrimSpace(r.PostFormValue("reason")); isReason(reason) {
		return reason, true
	}
	status, p := c.failed(r, errReason)
	c.show(w, r, "/events", status, p)
	return "", false
}

// errReason reports a form without a reason that needs one, or with a long one.
var errReason = errors.New("the reason is missing or too long")

func isReason(text string) bool { return text != "" && utf8.RuneCountInString(text) <= maxReason }

func (c *Console) toEvent(w http.ResponseWriter, r *request, done string) {
	location := r.base + string(eventPath(r.PathValue("id"))) + "?done=" + done
	http.Redirect(w, r.Request, location, http.StatusSeeOther) //nolint:gosec // a path on this host
}

func eventPath(id string) template.URL {
	return template.URL("/events/" + url.PathEscape(id)) //nolint:gosec // encoded here
}
