package console

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

const replayFailed = "failed"

// replay replays an event, records that if it did anything, and redirects to the event's page, which shows the outcome.
func (c *Console) replay(w http.ResponseWriter, r *request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), backgroundTimeout)
	defer cancel()
	id, started := r.PathValue("id"), time.Now()
	operator := c.operatorOf(r.Request, "", c.config.Timeout)
	var applied operations.EventResult
	err := c.inSlot(ctx, func() error {
		applied = operator.Replay(ctx, id, "")
		return applied.Err
	})
	result, failed := string(applied.Outcome), 0
	if err != nil {
		result, failed = replayFailed, 1
		c.config.Logger.WarnContext(ctx, "console: replay failed", "event_id", id, "error", err)
	} else {
		c.config.Logger.InfoContext(ctx, "console: event replayed", "event_id", id, "outcome", result)
	}
	if applied.Outcome != webhooks.OutcomeDuplicate {
		operator.RecordRun(ctx, &operations.RunRecord{
			Kind: operations.RunReplay, Arguments: map[string]any{"events": []string{id}}, Counts: map[string]int{"tried": 1, "failed": failed},
			Started: started, Err: err,
		})
	}
	http.Redirect(w, r.Request, r.base+"/events/"+url.PathEscape(id)+"?replayed="+result, http.StatusSeeOther) //nolint:gosec // a path on this host
}
