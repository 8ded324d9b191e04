package main

import (
	"context"
	"crypto/md5" //nolint:gosec // as ledgerOf makes ids
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
)

// controlRows are the rows of the plain ledger that is measured in turns with each large one. The large ones are measured one after the
// other, since a disk may not hold both, and what the machine does meanwhile is taken out by the control.
const controlRows = 100_000

// ledgerUse is something that is done with a ledger, a number of times.
type ledgerUse struct {
	what  string
	times int
	do    func(ctx context.Context, tx pgx.Tx, l *ledger) error
}

// ledger is a ledger of ledgerOf, filled at a time.
type ledger struct {
	rows     int
	filled   time.Time
	inserted int
}

// ledgerUses are measured each in a transaction, which is rolled back.
var ledgerUses = []ledgerUse{
	{"look up a duplicate of the last 100,000 events", 2000, func(ctx context.Context, tx pgx.Tx, l *ledger) error {
		return l.lookUp(ctx, tx, l.rows-rand.IntN(min(l.rows, 100_000)))
	}},
	{"look up a duplicate of any age", 1000, func(ctx context.Context, tx pgx.Tx, l *ledger) error { return l.lookUp(ctx, tx, 1+rand.IntN(l.rows)) }},
	{"insert an event", 2000, func(ctx context.Context, tx pgx.Tx, l *ledger) error {
		l.inserted++
		object, version := "sub_1"+rand32(), "2024-06-20"
		return db.New().StripeWebhookEventInsert(ctx, tx, db.StripeWebhookEventInsertParams{
			EventID: idOf(l.rows + l.inserted), EventType: "customer.subscription.updated", Outcome: "processed", EventCreatedAt: &l.filled,
			ObjectID: &object, ApiVersion: &version, Receiver: "host",
		})
	}},
	{"prune 1,000 events", 10, func(ctx context.Context, tx pgx.Tx, l *ledger) error {
		after := l.at(rand.IntN(l.rows / 2))
		pruned, err := db.New().StripeWebhookEventPrune(ctx, tx, db.StripeWebhookEventPruneParams{Before: l.filled, After: after, MaxRows: 1000})
		if err == nil && pruned.Events != 1000 {
			err = fmt.Errorf("%d events were pruned", pruned.Events)
		}
		return err
	}},
	{"list the newest 50 events", 200, func(ctx context.Context, tx pgx.Tx, l *ledger) error { return l.list(ctx, tx, l.filled.Add(time.Hour)) }},
	{"list 50 events of any time", 200, func(ctx context.Context, tx pgx.Tx, l *ledger) error {
		return l.list(ctx, tx, l.at(1000+rand.IntN(l.rows-1000)))
	}},
	{"list the events of an object", 200, func(ctx context.Context, tx pgx.Tx, l *ledger) error {
		found, err := db.New().StripeWebhookEventListByObjects(ctx, tx, db.StripeWebhookEventListByObjectsParams{
			ObjectIds: []string{"sub_1" + md5Of(rand.IntN(l.rows / 10))[:23]}, MaxRows: 50,
		})
		if err == nil && len(found) == 0 {
			err = errors.New("the object has no events")
		}
		return err
	}},
	{"count the newest 20,000 for the console's chart", 20, func(ctx context.Context, tx pgx.Tx, l *ledger) error {
		_, err := db.New().LedgerActivity(ctx, tx, db.LedgerActivityParams{Width: 3600, Since: l.at(0).Add(-time.Hour), MaxRows: 20_000})
		return err
	}},
}

func rand32() string { return fmt.Sprintf("%016x%07x", rand.Uint64(), rand.Uint32()>>4) }

// idOf returns the id of the nth event of ledgerOf.
func idOf(n int) string { return fmt.Sprintf("evt_1%09x%s", n, md5Of(n)[:14]) }

func md5Of(n int) string {
	sum := md5.Sum(fmt.Append(nil, n)) //nolint:gosec // as PostgreSQL's md5
	return hex.EncodeToString(sum[:])
}

// at returns the time of the nth event.
func (l *ledger) at(n int) time.Time { return l.filled.Add(-time.Duration(l.rows-n) * time.Second) }

func (l *ledger) lookUp(ctx context.Context, tx pgx.Tx, n int) error {
	_, err := db.New().StripeWebhookEventOutcome(ctx, tx, idOf(n))
	return err
}

func (l *ledger) list(ctx context.Context, tx pgx.Tx, before time.Time) error {
	events, err := db.New().StripeWebhookEventList(ctx, tx, db.StripeWebhookEventListParams{Before: &before, MaxRows: 50})
	if err == nil && len(events) != 50 {
		err = fmt.Errorf("%d events are listed", len(events))
	}
	return err
}

// measuredLedger is what the rounds on one ledger took, and on its control: by use, in µs.
type measuredLedger struct {
	own, control map[string][]float64
	bytes        int64
}

// overPartitions compares a ledger in hash partitions with a plain one.
func (b *stand) overPartitions() error {
	control, controlled, err := b.fillLedger(controlRows, 0)
	if err != nil {
		return err
	}
	var all []measuredLedger
	for kind, n := range []int{0, *partitions} {
		url, l, err := b.fillLedger(*ledgerRows, n)
		if err != nil {
			return err
		}
		m := measuredLedger{own: map[string][]float64{}, control: map[string][]float64{}}
		if m.bytes, err = b.ledgerSize(url); err != nil {
			return err
		}
		for round := range *rounds {
			list := requests(uint64(5000+100*kind+round), *lives, projectionOnly)
			for _, one := range []struct {
				url string
				l   *ledger
				of  map[string][]float64
			}{{control, controlled, m.control}, {url, l, m.own}} {
				if err := b.useLedger(one.url, one.l, one.of, list); err != nil {
					return err
				}
			}
			progress("%d partitions, round %d", n, round+1)
		}
		all = append(all, m)
		if err := b.dropDatabase(url); err != nil {
			return err
		}
	}
	b.addPartitions(all[0], all[1])
	return nil
}

// fillLedger creates a database with a ledger in a number of partitions (0: a plain one).
func (b *stand) fillLedger(rows, partitions int) (url string, l *ledger, err error) {
	if url, err = b.database(ours); err != nil {
		return "", nil, err
	}
	if partitions > 0 {
		if err := b.partition(url, partitions); err != nil {
			return "", nil, err
		}
	}
	progress("a ledger in %d partitions is filled with %d rows", partitions, rows)
	began := time.Now()
	const step = 1_000_000
	for n := 0; n < rows; n += step {
		chunk := strings.Replace(fmt.Sprintf(ledgerOf, rows), "generate_series(1, ", fmt.Sprintf("generate_series(%d, ", n+1), 1)
		chunk = strings.Replace(chunk, fmt.Sprintf(", %d) AS n", rows), fmt.Sprintf(", %d) AS n", min(n+step, rows)), 1)
		if err := b.exec(url, chunk); err != nil {
			return "", nil, err
		}
	}
	progress("filled in %s", time.Since(began).Round(time.Second))
	for _, statement := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
		if err := b.exec(url, statement); err != nil {
			return "", nil, err
		}
	}
	l = &ledger{rows: rows}
	return url, l, b.scan(url, "SELECT processed_at FROM stripe_webhook_events ORDER BY processed_at DESC LIMIT 1", &l.filled)
}

// partition moves the empty ledger into partitions, as users do.
func (b *stand) partition(url string, partitions int) error {
	script, err := os.ReadFile("deploy/partitions.sql")
	if err != nil {
		return err
	}
	conn, err := pgconn.Connect(b.ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(b.ctx) }()
	for _, sql := range []string{
		string(script), fmt.Sprintf("CALL pg_temp.stripeonce_prepare('stripe_webhook_events', %d)", partitions),
		"CALL pg_temp.stripeonce_copy('stripe_webhook_events')", "CALL pg_temp.stripeonce_swap('stripe_webhook_events')",
		"CALL pg_temp.stripeonce_finish('stripe_webhook_events')",
	} {
		if err := conn.Exec(b.ctx, sql).Close(); err != nil {
			return err
		}
	}
	return nil
}

func (b *stand) scan(url, query string, to any) error {
	conn, err := pgx.Connect(b.ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(b.ctx)
	return conn.QueryRow(b.ctx, query).Scan(to)
}

func (b *stand) ledgerSize(url string) (bytes int64, err error) {
	err = b.scan(url, `SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r' AND relname LIKE 'stripe\_webhook\_events%'`, &bytes)
	return bytes, err
}

func (b *stand) dropDatabase(url string) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	return b.exec(b.cluster.URL("postgres"), "DROP DATABASE "+config.Database+" WITH (FORCE)")
}

// useLedger measures a round of everything, and the receiver's new events.
func (b *stand) useLedger(url string, l *ledger, of map[string][]float64, list [][]byte) error {
	pool, err := pgxpool.New(b.ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	for _, use := range ledgerUses {
		if err := b.measureUse(pool, use, l, of); err != nil {
			return fmt.Errorf("%s: %w", use.what, err)
		}
	}
	m, err := b.rate(ours, projectionOnly, url, list, *connections)
	if err != nil { // a machine that does other work may be too slow for the receiver's limits
		progress("the receiver is left out of a round: %v", err)
		return nil
	}
	of[byReceiver] = append(of[byReceiver], m.each(m.took))
	of[byReceiverCPU] = append(of[byReceiverCPU], m.each(m.cpu+m.server))
	return nil
}

// measureUse measures one use, in a transaction that is rolled back: the backend's processor time, and the time that passes.
func (b *stand) measureUse(pool *pgxpool.Pool, use ledgerUse, l *ledger, of map[string][]float64) error {
	tx, err := pool.Begin(b.ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(b.ctx) }()
	do := func(times int) error {
		for range times {
			if err := use.do(b.ctx, tx, l); err != nil {
				return err
			}
		}
		return nil
	}
	if err := do(use.times / 10); err != nil { // which plans the statement, and is not measured
		return err
	}
	backend := int(tx.Conn().PgConn().PID())
	before, err := preciseCPU(backend)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := do(use.times); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := preciseCPU(backend)
	of[use.what] = append(of[use.what], float64((after-before).Microseconds())/float64(use.times))
	of[elapsed+use.what] = append(of[elapsed+use.what], float64(took.Microseconds())/float64(use.times))
	return err
}

// preciseCPU returns a process's processor time, to the nanosecond.
func preciseCPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	return time.ParseDuration(first + "ns")
}

const (
	elapsed       = "elapsed: "
	byReceiver    = "a new event through the receiver: elapsed"
	byReceiverCPU = "a new event through the receiver: processor time of both"
)

// addPartitions prints the table of overPartitions.
func (b *stand) addPartitions(plain, parts measuredLedger) {
	fmt.Printf("\n%s rows, %d rounds; µs each, medians. A ratio is of medians, each divided by that of a plain ledger of %s rows in the same rounds.\n\n",
		thousands(*ledgerRows), *rounds, thousands(controlRows))
	fmt.Printf("| what | plain | %d partitions | ratio | elapsed, plain | elapsed, partitions | ratio |\n| --- | --- | --- | --- | --- | --- | --- |\n", *partitions)
	cells := func(name string) string {
		if len(plain.own[name]) == 0 || len(parts.own[name]) == 0 || len(plain.control[name]) == 0 || len(parts.control[name]) == 0 {
			return "| | | "
		}
		p, q := median(plain.own[name]), median(parts.own[name])
		return fmt.Sprintf("| %.0f | %.0f | %.2f ", p, q, q/median(parts.control[name])/(p/median(plain.control[name])))
	}
	for _, use := range ledgerUses {
		fmt.Printf("| %s %s%s|\n", use.what, cells(use.what), cells(elapsed+use.what))
	}
	fmt.Printf("| a new event through the receiver, %d in flight %s%s|\n", *connections, cells(byReceiverCPU), cells(byReceiver))
	fmt.Printf("| size with indexes, bytes a row | %d | %d | %.2f | | | |\n", plain.bytes/int64(*ledgerRows), parts.bytes/int64(*ledgerRows), float64(parts.bytes)/float64(plain.bytes))
}
