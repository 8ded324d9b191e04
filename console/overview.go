package console

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// span is a time span that a page covers.
type span struct {
	Name, Label string
	length      time.Duration
	width       time.Duration // of a bar in the chart
}

var spans = []span{
	{"1h", "hour", time.Hour, time.Minute},
	{"24h", "day", 24 * time.Hour, 30 * time.Minute},
	{"7d", "week", 7 * 24 * time.Hour, 3 * time.Hour},
	{"30d", "month", 30 * 24 * time.Hour, 12 * time.Hour},
}

func spanNamed(name, byDefault string) span {
	for _, s := range spans {
		if s.Name == name {
			return s
		}
	}
	return spanNamed(byDefault, spans[0].Name)
}

// maxCounted is how many of the newest events the overview counts. They are read by an index.
const maxCounted = 20_000

// tally counts the deliveries with one outcome.
type tally struct {
	Outcome string
	Count   int64
}

type overviewData struct {
	Span       span
	Spans      []span
	Chart      *chart
	Counted    int64
	CutAt      *time.Time // if the span has more than maxCounted events
	Lag        db.LedgerLagRow
	Failing    int64
	Parked     int64
	MaxFailing int64
	Newest     *db.LedgerNewestRow
	Banners    []banner
	Changed    []changedKind
	Deliveries []tally
	InFlight   int
	Endpoints  endpoints
}

func (c *Console) overview(r *request) (*page, error) {
	d := &overviewData{Span: spanNamed(r.param("span"), "24h"), Spans: spans, MaxFailing: operations.MaxFailureCount}
	now := time.Now()
	since := now.Add(-d.Span.length)
	activity, err := c.queries.LedgerActivity(r.ctx, c.pool, db.LedgerActivityParams{Width: int32(d.Span.width / time.Second), Since: since, MaxRows: maxCounted})
	if err != nil {
		return nil, err
	}
	if d.Lag, err = c.queries.LedgerLag(r.ctx, c.pool, since, maxCounted); err != nil {
		return nil, err
	}
	if d.Failing, err = c.operator.CountFailing(r.ctx); err != nil {
		return nil, err
	}
	if d.Parked, err = c.operator.CountParked(r.ctx); err != nil {
		return nil, err
	}
	newest, err := c.queries.LedgerNewest(r.ctx, c.pool)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	if err == nil {
		d.Newest = &newest
	}
	if d.Counted = d.Lag.Events; d.Counted == maxCounted {
		d.CutAt = &d.Lag.Oldest
	}
	d.Chart = newChart(withDuplicates(activity, c.receiver.Duplicates(since, d.Span.width)), since, now, d.Span.width)
	stats := c.receiver.Stats()
	d.Deliveries, d.InFlight = deliveries(stats), stats.InFlight
	if d.Changed, err = c.changed(r.ctx, now); err != nil {
		return nil, err
	}
	if d.Banners, err = c.banners(r.ctx, d, &stats, now); err != nil {
		return nil, err
	}
	d.Endpoints = c.endpoints.look(r.ctx, c)
	return &page{Title: "Overview", Template: "overview", Data: d}, nil
}

// deliveries returns the receiver's counts since the start.
func deliveries(stats webhooks.Stats) (list []tally) {
	for _, label := range []string{"processed", "stale", "ignored", "parked", "duplicate", "invalid", "failed", "unavailable"} {
		list = append(list, tally{label, int64(stats.Deliveries[label].Count)})
	}
	return list
}
