package webhooks

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/erasure"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgpool"
	"github.com/pook/stripeonce/internal/readiness"
	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/internal/stripeapi"
)

// Receiver receives deliveries. It is an http.Handler and safe for concurrent use. Create it with New.
type Receiver struct {
	config    *Config
	handlers  *Handlers
	verifier  *signing.Verifier
	pool      *pgpool.Pool
	pipelines bool // writes travel with COMMIT in the query exec mode of the pool
	queries   *db.Queries
	readiness *readiness.Checker
	stripe    *stripeapi.Client
	stats     *recorder
	onFailure *notifier
	onParked  *notifier
	erasures  erasure.Flag

	ledgerIndexes sync.Map // the indexes of the ledger's partitions by which a race was lost: schema and name, see lostRace

	limiter     *admission.Limiter
	shedder     *admission.Shedder
	bodies      *admission.Budget
	flights     admission.Flights[flightResult]
	fetches     sharedFetches
	lists       *rate.Limiter // of the requests for the rest of lists
	seen        *admission.Seen
	twins       *admission.Twins
	objects     admission.Queues[*rider]
	rideWait    time.Duration // rideWait
	bulkhead    *admission.Bulkhead
	lookups     *admission.Batches[*lookup]
	batches     *admission.Batches[*delivery] // of events that run no handler of the host's
	hostBatches *admission.Batches[*delivery] // of those that do
}

// New returns a Receiver whose events take effect through pool's connections. It freezes h. It does not
// connect: see Ready. The error names every field of config that is wrong.
func New(pool *pgxpool.Pool, h *Handlers, config *Config) (*Receiver, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	if pool == nil {
		return nil, errors.New("webhooks.New: the pool is nil")
	}
	if h == nil {
		return nil, errors.New("webhooks.New: the handlers are nil: use webhooks.NewHandlers()")
	}
	warnOfUnknownTypes(h, config.Logger)
	h.frozen.Store(true)
	acquirer := &pgpool.Pool{Pool: pool, AcquireTimeout: config.AcquireTimeout}
	return &Receiver{
		config:    config,
		handlers:  h,
		verifier:  signing.NewVerifier(config.Secrets, config.Tolerance),
		pool:      acquirer,
		pipelines: pgpipe.PipelinesCommit(pool.Config().ConnConfig.DefaultQueryExecMode),
		queries:   db.New(),
		readiness: readiness.New(readiness.Config{
			Pool: acquirer, Projections: h.projections, Timeout: config.Timeout, LockTimeout: config.LockTimeout,
			Fetches: config.APIKey != "", KeepsPayloads: config.KeepPayloads, AssumeMigrated: config.AssumeMigrated, Logger: config.Logger,
		}),
		// No retries, and a short timeout: Stripe retries the delivery.
		stripe:      stripeapi.New(stripeapi.Config{Key: config.APIKey, Base: config.APIBase, Timeout: config.FetchTimeout}),
		lists:       newListLimiter(config.ListRate),
		stats:       newRecorder(h.Types()),
		onFailure:   newNotifier(config.OnFailure, config),
		onParked:    newNotifier(config.OnParked, config),
		limiter:     admission.NewLimiter(config.MaxInFlight),
		shedder:     admission.NewShedder(config.TargetWait, config.ShedAfter),
		bodies:      admission.NewBudget(config.MaxBufferBytes),
		seen:        admission.NewSeen(),
		twins:       admission.NewTwins(),
		rideWait:    rideWait,
		bulkhead:    admission.NewBulkhead(int(pool.Config().MaxConns), config.reservedConnections(pool.Config().MaxConns)),
		lookups:     admission.NewBatches[*lookup](config.ConcurrentBatches, config.MaxBatchSize, batchWait),
		batches:     admission.NewBatches[*delivery](config.ConcurrentBatches, config.MaxBatchSize, batchWait),
		hostBatches: admission.NewBatches[*delivery](config.ConcurrentBatches, config.MaxBatchSize, batchWait),
	}, nil
}

// Ready returns nil if deliveries can take effect: the database answers, can be written to, has every
// migration, and is not behind a pooler that does not suit the pool's settings; the role has the
// privileges that it needs; and the receiver is not shutting down. Otherwise the error says what is wrong and wraps
// ErrUnavailable.
//
// The first call, and the first after an error that casts doubt on the database, also tries a delivery: it writes
// rows with random ids to every table that deliveries write, in the pool's own query exec mode, reads them back, and
// rolls back. A constraint, a trigger or a row level security policy of the host's that rejects such a row shows that
// the table accepts writes. While every connection is in use, an event that takes effect is proof enough.
func (r *Receiver) Ready(ctx context.Context) error {
	if r.limiter.Closed() {
		return fault.Unavailable(ErrShutdown)
	}
	return r.readiness.Ready(ctx)
}

// Types returns the types that handlers are registered for, as Handlers.Types does.
func (r *Receiver) Types() []string { return r.handlers.Types() }

// Name is Config.Name.
func (r *Receiver) Name() string { return r.config.Name }

// AccountID is Config.AccountID.
func (r *Receiver) AccountID() string { return r.config.AccountID }

// Handles reports whether the event would run a handler: one is registered for its type, it is of the mode
// that takes effect, and if it is thin there is an API key to fetch its object with.
func (r *Receiver) Handles(ev *Event) bool { return r.newDelivery(ev, purpose{}).takesEffect() }

// AcceptsMode reports whether events of a mode, live or test, take effect ([Config].Mode).
func (r *Receiver) AcceptsMode(livemode bool) bool {
	return r.config.Mode == ModeAny || livemode == (r.config.Mode == ModeLive)
}

// Shutdown refuses further deliveries with 503 and waits until those in flight are done, their failures recorded, and the calls of
// OnFailure and OnParked have returned, or ctx ends.
func (r *Receiver) Shutdown(ctx context.Context) error {
	if err := r.limiter.Close(ctx); err != nil {
		return err
	}
	return errors.Join(r.onFailure.close(ctx), r.onParked.close(ctx))
}
