package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/internal/cli"
	"github.com/pook/stripeonce/internal/objecttypes"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
)

// completeInterval is how often the program looks for rows of whose lists only a part is stored.
const completeInterval = time.Minute

// checkTimeout bounds what is looked up before the program listens.
const checkTimeout = 5 * time.Second

// background is what serve does beside deliveries.
type background struct {
	*serveFlags
	pool     *pgxpool.Pool
	receiver *ownReceiver
	logger   *slog.Logger
	operator *operations.Operator
	stops    []func()
}

func newBackground(f *serveFlags, pool *pgxpool.Pool, receiver *ownReceiver, logger *slog.Logger) *background {
	return &background{serveFlags: f, pool: pool, receiver: receiver, logger: logger, operator: operations.New(pool, &operations.Config{
		Applier: receiver.Receiver, APIKey: f.apiKey, APIBase: f.apiBase, Operator: "serve", Logger: logger, SoleReceiver: !f.reconcileAll,
	})}
}

// check refuses work that cannot be done.
func (b *background) check(ctx context.Context) error {
	if b.retryFailed && b.pool.Config().MaxConns < 2 {
		return cli.Usage("--retry-failed requires a pool of at least 2 connections: set pool_max_conns=2 or more in %s", envDatabaseURL)
	}
	if b.reconcileEvery > 0 && !b.reconcileAll {
		return b.refuseOthers(ctx)
	}
	return nil
}

// start starts the work, which goes on until ctx ends or stop is called, and returns its metrics.
func (b *background) start(ctx context.Context) (collectors []prometheus.Collector, err error) {
	operator := b.operator
	if b.keepPayloads > 0 {
		b.run(ctx, func(ctx context.Context) error {
			return operator.PrunePayloadsEvery(ctx, time.Duration(b.keepPayloads))
		})
	}
	if b.retryFailed {
		collectors = append(collectors, metrics.NewRetry(operator))
		b.run(ctx, func(ctx context.Context) error { return operator.RetryFailed(ctx, operations.RetryOptions{}) })
	}
	if b.reconcileEvery > 0 {
		collectors = append(collectors, metrics.NewReconcile(operator))
		b.run(ctx, func(ctx context.Context) error {
			return operator.ReconcileEvery(ctx, time.Duration(b.reconcileEvery), b.accounts...)
		})
	}
	if b.apiKey == "" {
		if slices.Contains(b.mirrored, mirror.Entitlements[0]) {
			b.logger.Warn("entitlements are mirrored without an API key: lists of more than ten stay incomplete, and catalog changes are missed",
				"fix", "set "+envAPIKey)
		}
		return collectors, nil
	}
	if b.refetch != string(subscriptions.RefetchNever) && b.pool.Config().MaxConns > 1 {
		b.run(ctx, func(ctx context.Context) error {
			return subscriptions.CompleteItemsEvery(ctx, b.pool, completeInterval, b.ofSubscriptions())
		})
		if b.receiver.mirror != nil {
			b.run(ctx, func(ctx context.Context) error {
				return mirror.CompleteListsEvery(ctx, b.pool, completeInterval, b.ofMirror(b.mirrored))
			})
		}
	}
	jobs, every, err := b.comparisons()
	if err != nil || len(jobs) == 0 {
		return collectors, err
	}
	b.run(ctx, func(ctx context.Context) error { return operator.VerifyEvery(ctx, every, jobs...) })
	return append(collectors, metrics.NewVerify(operator)), nil
}

// refuseOthers refuses to reconcile where the ledger has events of an application, whose handlers this program does not contain: they
// would never run for the events that it applies. If the ledger cannot be read yet, each run finds out.
func (b *background) refuseOthers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	others, err := b.operator.OtherReceivers(ctx)
	if err == nil && len(others) > 0 {
		return cli.Usage("--reconcile-every: the ledger has events of the receiver %q, whose handlers this program does not contain: "+
			"reconcile in that application (operations.ReconcileEvery), or with 'stripeonce reconcile --to URL'; if that application no longer runs, add --reconcile-others", others[0])
	}
	return nil
}

// comparisons returns what is compared with Stripe, and how often: everything, or entitlements alone.
func (b *background) comparisons() (jobs []operations.Job, every time.Duration, err error) {
	types := mirror.Entitlements
	switch {
	case b.verifyEvery > 0:
		every = time.Duration(b.verifyEvery)
		job, err := subscriptions.NewJob(b.pool, b.ofSubscriptions())
		if err != nil {
			return nil, 0, err
		}
		jobs = append(jobs, job)
		types = slices.DeleteFunc(slices.Clone(b.mirrored), func(object string) bool { return objecttypes.Comparable([]string{object}) != nil })
	case b.entitled > 0 && slices.Contains(b.mirrored, types[0]):
		every = time.Duration(b.entitled)
	default:
		return nil, 0, nil
	}
	if len(types) == 0 {
		return jobs, every, nil
	}
	mirrored, err := mirror.Jobs(b.pool, b.ofMirror(types))
	return append(jobs, mirrored...), every, err
}

func (b *background) ofSubscriptions() *subscriptions.VerifyConfig {
	return &subscriptions.VerifyConfig{
		APIKey: b.apiKey, APIBase: b.apiBase, Fix: b.receiver.Receiver, Projection: b.receiver.subscriptions,
		AccountID: b.accountID, Rate: b.listRate, Logger: b.logger,
	}
}

func (b *background) ofMirror(types []string) *mirror.VerifyConfig {
	return &mirror.VerifyConfig{
		Types: types, APIKey: b.apiKey, APIBase: b.apiBase, Fix: b.receiver.Receiver, Projection: b.receiver.mirror,
		AccountID: b.accountID, Rate: b.listRate, Logger: b.logger,
	}
}

// run runs fn in a goroutine until ctx ends or stop is called.
func (b *background) run(ctx context.Context, fn func(context.Context) error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	b.stops = append(b.stops, func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		if err := fn(ctx); err != nil {
			b.logger.ErrorContext(ctx, "background work failed", "error", err)
		}
	}()
}

// stop stops the work and waits for it.
func (b *background) stop() {
	for _, stop := range slices.Backward(b.stops) {
		stop()
	}
}
