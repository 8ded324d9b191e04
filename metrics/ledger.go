package metrics

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/operations"
)

const (
	// ledgerTimeout bounds the queries of one scrape.
	ledgerTimeout = 2 * time.Second
	// ledgerAge is how long the results are cached, for all scrapers.
	ledgerAge = 5 * time.Second
	// lagSpan and lagEvents bound the events that the lag is computed from: the newest at each scrape.
	lagSpan   = 15 * time.Minute
	lagEvents = 1000
)

// LedgerCollector is a prometheus.Collector of the ledger, which all receivers on the database share. It runs three short
// queries on the pool, for one scrape at a time and at most every five seconds.
type LedgerCollector struct {
	pool *pgxpool.Pool
	mu   sync.Mutex
	at   time.Time
	last []prometheus.Metric
}

// NewLedger returns the collector of the ledger that a pool leads to.
func NewLedger(pool *pgxpool.Pool) *LedgerCollector { return &LedgerCollector{pool: pool} }

var (
	ledgerUp      = desc("ledger_up", "1 if PostgreSQL answered the queries of this scrape, else 0; the ledger's other metrics are then missing.")
	ledgerFails   = desc("failing_events", "Events whose last attempt failed and that have not been applied since, counted up to 1000 among the newest 100000 that ever failed.")
	ledgerLast    = desc("last_event_timestamp_seconds", "When an event was last recorded, in Unix seconds; 0: never.")
	ledgerLagDesc = desc("lag_seconds", "From Stripe's creation of an event to its effect, over at most 1000 events of the last 15 minutes; none if there were none.", "quantile")
)

// Describe sends every metric's description.
func (c *LedgerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ledgerUp, ledgerFails, ledgerLast, ledgerLagDesc} {
		ch <- d
	}
}

// Collect sends the results of the queries.
func (c *LedgerCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) > ledgerAge {
		c.last, c.at = c.query(), time.Now()
	}
	for _, metric := range c.last {
		ch <- metric
	}
}

func (c *LedgerCollector) query() (list []prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		list = append(list, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...))
	}
	ctx, cancel := context.WithTimeout(context.Background(), ledgerTimeout)
	defer cancel()
	queries := db.New()
	failing, err1 := operations.New(c.pool, nil).CountFailing(ctx)
	newest, err2 := queries.LedgerNewest(ctx, c.pool)
	lag, err3 := queries.LedgerLag(ctx, c.pool, time.Now().Add(-lagSpan), lagEvents)
	last := 0.0
	switch {
	case err2 == nil:
		last = float64(newest.ProcessedAt.UnixNano()) / 1e9
	case errors.Is(err2, pgx.ErrNoRows):
		err2 = nil
	}
	if errors.Join(err1, err2, err3) != nil {
		gauge(ledgerUp, 0)
		return list
	}
	gauge(ledgerUp, 1)
	gauge(ledgerFails, float64(failing))
	gauge(ledgerLast, last)
	if lag.Events > 0 {
		gauge(ledgerLagDesc, lag.Median, "0.5")
		gauge(ledgerLagDesc, lag.High, "0.95")
	}
	return list
}
