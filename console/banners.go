package console

import (
	"context"
	"encoding/json"
	"errors"
	"html/template"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/operationid"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

const (
	// bannerSpan is how long the overview warns of runs that found missing events or failed.
	bannerSpan = 24 * time.Hour
	// processSpan is how long it warns of what this process has seen: a signature that did not match, a request that Stripe refused.
	processSpan = time.Hour
	// maxProblems is of how many runs it warns, and maxRunsLookedAt among how many it looks for them.
	maxProblems     = 3
	maxRunsLookedAt = 5000
)

// banner is a warning above the overview: what is wrong, since when, and what to do.
type banner struct {
	Urgent bool // events do not take effect
	What   string
	When   string     // what At is the time of, if What does not say it
	At     *time.Time // nil: it is so now
	Fix    string
	Link   string
	Path   template.URL // below the base, or of Stripe's dashboard
	Away   bool         // Path is of another site
}

// banners returns what the overview warns of, the most urgent first.
func (c *Console) banners(ctx context.Context, d *overviewData, stats *webhooks.Stats, now time.Time) (list []banner, err error) {
	if one := c.readiness(ctx); one != nil {
		list = append(list, *one)
	}
	if one := ofSignatures(stats, now); one != nil {
		list = append(list, *one)
	}
	list = append(list, ofProcess(stats, now)...)
	list = append(list, ofFailures(d)...)
	silent, err := c.silence(ctx, d.Newest, now)
	if err != nil {
		return nil, err
	}
	if silent != nil {
		list = append(list, *silent)
	}
	runs, err := c.ofRuns(ctx, now)
	return append(list, runs...), err
}

// readyTimeout bounds the check whether deliveries can take effect, as /readyz does.
const readyTimeout = 3 * time.Second

// readiness warns that deliveries cannot take effect.
func (c *Console) readiness(ctx context.Context) *banner {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if c.receiver.Ready(ctx) == nil {
		return nil
	}
	return &banner{Urgent: true, What: "Not ready: deliveries cannot take effect, and are answered 503", Fix: "/readyz and the log say why. Stripe retries for three days."}
}

// rejections say what is wrong with deliveries whose signature was rejected for a reason. Anybody can cause all but the first: they are
// shown while no delivery is verified.
var rejections = []struct{ reason, what, fix string }{
	{"mismatch", "no signing secret matches", "Compare the signing secret of this receiver with that of the endpoint at Stripe."},
	{"expired", "the timestamp is too old of", "Check this machine's clock."},
	{"empty_body", "the body is missing of", "Something in front of the receiver, such as a middleware, has read it."},
	{"missing", "there is no Stripe-Signature header in", "A proxy may remove it."},
	{"malformed", "the Stripe-Signature header cannot be read of", "A proxy may change it."},
}

// ofSignatures warns of signatures that were rejected.
func ofSignatures(stats *webhooks.Stats, now time.Time) *banner {
	verifies := slices.ContainsFunc(stats.Secrets, func(s webhooks.SecretStats) bool { return now.Sub(s.LastMatch) < processSpan })
	for _, of := range rejections {
		last, found := stats.Signatures.LastRejected[of.reason]
		if !found || now.Sub(last) > processSpan || verifies && of.reason != "mismatch" {
			continue
		}
		rejected := "1 delivery"
		if n := stats.Signatures.Rejected[of.reason]; n != 1 {
			rejected = count(int64(n)) + " deliveries"
		}
		return &banner{
			Urgent: true, When: "the last one", At: &last, What: "Signatures fail: " + of.what + " " + rejected + " to this process",
			Fix:  of.fix + " Stripe retries these deliveries.",
			Link: "Endpoints at Stripe", Path: "https://dashboard.stripe.com/webhooks", Away: true,
		}
	}
	return nil
}

// ofProcess warns of what this process could neither record nor fetch.
func ofProcess(stats *webhooks.Stats, now time.Time) (list []banner) {
	if n := stats.UnrecordedFailures; n > 0 {
		list = append(list, banner{
			Urgent: true, What: plural(int64(n), "failed event") + " could not be recorded by this process since its start",
			Fix: "They are in its log alone, at level ERROR, and Stripe retries them. Check PostgreSQL and the table stripe_webhook_failures.",
		})
	}
	if last := stats.Fetches.LastRefused; now.Sub(last) < processSpan {
		list = append(list, banner{
			Urgent: true, When: "the last one", At: &last, What: "Stripe refuses requests for events' objects: " + plural(int64(stats.Fetches.Refused), "request") + " of this process",
			Fix: "Check the API key: its mode, its account, and its permission to read the object that the log names.",
		})
	}
	if n := stats.Fetches.NoKey; n > 0 {
		list = append(list, banner{
			What: plural(int64(n), "thin event") + " ignored by this process since its start, for want of an API key of the mode",
			Fix:  "Set the API key, then replay the ignored events.", Link: "Ignored events", Path: "/events?outcome=ignored",
		})
	}
	return list
}

// ofFailures warns of failing and parked events.
func ofFailures(d *overviewData) (list []banner) {
	number := func(n int64, one, more string) string {
		switch n {
		case 1:
			return "1 event " + one
		case d.MaxFailing:
			return count(n) + " or more events " + more
		}
		return count(n) + " events " + more
	}
	if d.Failing > 0 {
		list = append(list, banner{
			Urgent: true, What: number(d.Failing, "is failing and has not taken effect", "are failing and have not taken effect"), Fix: "Fix the cause, then replay them.", Link: "Failures by error", Path: "/failures?state=failing",
		})
	}
	if d.Parked > 0 {
		list = append(list, banner{
			What: number(d.Parked, "is", "are") + " parked by a handler", Fix: "Stripe does not retry them: replay or dismiss them.", Link: "Parked events", Path: "/failures?state=parked",
		})
	}
	return list
}

// silence warns that nothing has arrived for QuietAfter, if anything ever did.
func (c *Console) silence(ctx context.Context, newest *db.LedgerNewestRow, now time.Time) (*banner, error) {
	if c.config.QuietAfter < 0 {
		return nil, nil
	}
	last, err := c.queries.ConsoleNewestFailure(ctx, c.pool)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	if newest != nil && newest.ProcessedAt.After(last) {
		last = newest.ProcessedAt
	}
	if last.IsZero() || now.Sub(last) < c.config.QuietAfter {
		return nil, nil
	}
	return &banner{
		What: "No event has arrived for " + inWords(now.Sub(last)), When: "the last one", At: &last,
		Fix:  "Check that the endpoint at Stripe is enabled and its URL is right, and reconcile to find events that never arrived.",
		Link: "Reconcile", Path: "/runs",
	}, nil
}

// ofRuns warns of runs that found missing events, and of failed runs of the background. A database without the table has none.
func (c *Console) ofRuns(ctx context.Context, now time.Time) (list []banner, err error) {
	rows, err := c.queries.ConsoleRunProblemList(ctx, c.pool, db.ConsoleRunProblemListParams{
		SinceID: operationid.FirstRun(now.Add(-bannerSpan)), MaxLookedAt: maxRunsLookedAt, MaxRows: maxProblems,
	})
	if fault.LacksMigration(err) {
		return nil, nil
	}
	for i := range rows {
		list = append(list, ofRun(&rows[i]))
	}
	return list, err
}

func ofRun(run *db.ConsoleRunProblemListRow) banner {
	var counts struct{ Missing, Applied, Failed, Drifted, Fixed int64 }
	_ = json.Unmarshal(run.Counts, &counts) // those of another kind of run have none
	b := banner{At: &run.StartedAt, Link: "The run", Path: runPath(run.ID)}
	switch {
	case counts.Missing > 0:
		b.Urgent = counts.Failed > 0
		b.What = "A reconcile run found " + plural(counts.Missing, "missing event") + ": " + count(counts.Applied) + " applied, " + count(counts.Failed) + " failed"
		b.Fix = "Deliveries are lost on their way: check the endpoint at Stripe, and what is in front of this receiver."
	case counts.Drifted > 0:
		b.What = "A comparison found " + plural(counts.Drifted, "object") + " that differed from Stripe: " + count(counts.Fixed) + " fixed"
		b.Fix = "Events were lost, or something changed for which Stripe sends none: reconcile finds lost events."
	case run.Kind == string(operations.RunRetry):
		b.Urgent, b.What, b.Fix = true, "The retrier failed, and failing events are not retried", orEmpty(run.Error)
	default:
		b.Urgent, b.What, b.Fix = true, "A reconcile run failed, and missing events are not found", orEmpty(run.Error)
	}
	return b
}
