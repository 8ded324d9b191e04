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
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/operations"
)

const (
	// ledgerTimeout bounds the queries of one scrape.
	ledgerTimeout = 2 * time.Second
	// ledgerAge is how long the results are cached, for all scrapers.
	ledgerAge = 5 * time.Second
	// maxIncomplete bounds the count of incomplete rows of each table.
	maxIncomplete = 1000
)

// LedgerCollector is a prometheus.Collector of the ledger, which all receivers on the database share. It runs five short
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
	ledgerUp      = desc("ledger_up", "Whether PostgreSQL answered the queries of this scrape: 1 or 0. At 0 the other metrics of the ledger are missing.")
	ledgerFails   = desc("failing_events", "Number of events whose last attempt failed and that have not been applied since, at most 1000, among the newest 100000 failures.")
	ledgerLast    = desc("last_event_timestamp_seconds", "Time at which an event was last recorded, in Unix seconds; 0 if none was.")
	ledgerParked  = desc("parked_events", "Number of parked events, which wait for an operator, at most 1000, among the newest 100000 failures.")
	ledgerPartial = desc("incomplete_rows", "Number of rows that lack a part of Stripe's lists, by table, at most 1000.", "table")
)

// Describe sends every metric's description.
func (c *LedgerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ledgerUp, ledgerFails, ledgerParked, ledgerLast, ledgerPartial} {
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
	queries, operator := db.New(), operations.New(c.pool, nil)
	failing, err1 := operator.CountFailing(ctx)
	parked, err2 := operator.CountParked(ctx)
	last, err3 := lastEvent(ctx, queries, c.pool)
	subscriptions, err4 := queries.LedgerIncompleteSubscriptions(ctx, c.pool, maxIncomplete)
	objects, err5 := queries.LedgerIncompleteObjects(ctx, c.pool, maxIncomplete)
	if errors.Join(err1, err2, err3, unlessUnused(err4), unlessUnused(err5)) != nil {
		gauge(ledgerUp, 0)
		return list
	}
	gauge(ledgerUp, 1)
	gauge(ledgerFails, float64(failing))
	gauge(ledgerParked, float64(parked))
	gauge(ledgerLast, last)
	if err4 == nil {
		gauge(ledgerPartial, float64(subscriptions), "subscriptions")
	}
	if err5 == nil {
		gauge(ledgerPartial, float64(objects), "stripe_objects")
	}
	return list
}

// unlessUnused leaves out that a table of a projection is missing, or may not be read: a receiver without that projection needs neither.
func unlessUnused(err error) error {
	if fault.Code(err) == fault.InsufficientPrivilege || fault.LacksMigration(err) {
		return nil
	}
	return err
}

// lastEvent returns when an event was last recorded, in Unix seconds; 0: never.
func lastEvent(ctx context.Context, queries *db.Queries, pool *pgxpool.Pool) (float64, error) {
	newest, err := queries.LedgerNewest(ctx, pool)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return float64(newest.ProcessedAt.UnixNano()) / 1e9, nil
}
