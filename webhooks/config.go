package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/internal/signing"
)

// Mode is the setting of which events take effect, by their mode.
type Mode string

// The modes. Events of the other mode are acknowledged as OutcomeIgnored: a live Connect endpoint gets
// test-mode events, too. See https://docs.stripe.com/connect/webhooks.
const (
	ModeAny  Mode = "any"
	ModeLive Mode = "live"
	ModeTest Mode = "test"
)

// The defaults of Config.
const (
	DefaultMaxBodyBytes      = 1 << 20
	DefaultMaxInFlight       = 1000
	DefaultMaxBufferBytes    = 64 << 20
	DefaultTimeout           = 8 * time.Second
	DefaultAcquireTimeout    = 5 * time.Second
	DefaultLockTimeout       = 5 * time.Second
	DefaultCommitTimeout     = 5 * time.Second
	DefaultMaxAttempts       = 4
	DefaultMaxBatchSize      = 16
	DefaultConcurrentBatches = 2
	DefaultFetchTimeout      = 3 * time.Second
	DefaultListRate          = 10
	DefaultRetryAfter        = 5 * time.Second
	DefaultTargetWait        = time.Second
	DefaultShedAfter         = 5 * time.Second
	DefaultNotifyEvery       = 30 * time.Second
	DefaultNotifyTimeout     = 10 * time.Second
	DefaultName              = "host"
	// FirstRetry is about when an event that failed may be retried for the first time by the retrier (operations.RetryFailed).
	FirstRetry = 15 * time.Minute
	// MaxErrorLength is how many bytes of an error's text a failure's record keeps.
	MaxErrorLength = 2000
)

// batchSizeLimit bounds Config.MaxBatchSize: each event of a batch holds a lock in PostgreSQL, which has room for
// max_locks_per_transaction of them for each connection.
const batchSizeLimit = 256

// Serialization is the setting of which events run one after the other, in this process and in others on the same database.
type Serialization string

const (
	// ByObject runs the events of one Stripe object one after the other.
	ByObject Serialization = "object"
	// ByCustomer runs the events of one customer one after the other, whatever their objects are, so that handlers may read
	// and write state of the customer. Events of one object still run one after the other. An event without a customer
	// (data.object.customer, or a customer itself) is serialized by its object alone, and a thin event by its customer once
	// its object has been fetched. An import (subscriptions.Verify with Fix) holds the subscription's lock alone.
	ByCustomer Serialization = "customer"
)

// Config configures a Receiver. Every field but Secrets, or AccountFor in its place, may be zero.
type Config struct {
	// Secrets are the signing secrets (whsec_…). A delivery may be signed with any of them. List several while rolling a
	// secret (the newest first), or for several endpoints. "label=whsec_…" names a secret in Stats. Required. Empty secrets
	// are refused, since anybody could sign with one, and so are placeholders.
	Secrets []string
	// Name is the receiver's name in the ledger and in the records of failures, at most 255 characters. Background work that applies
	// events, such as operations.RetryFailed, skips events of receivers of other names, since these have other handlers. Give all
	// replicas the same name, and keep it when you add handlers. Defaults to DefaultName, "host"; the program stripeonce has the name
	// "stripeonce".
	Name string
	// Tolerance is how old a signature's timestamp may be. Defaults to stripe-go's 5 minutes.
	Tolerance time.Duration
	// MaxBodyBytes bounds a delivery's body; the response to a larger one is 413. Defaults to 1 MiB.
	MaxBodyBytes int64
	// MaxInFlight bounds the deliveries that are processed or wait: for a connection, for a concurrent duplicate, for
	// another event of the same object. The response to further ones is 503 at once. Defaults to 1000.
	MaxInFlight int
	// MaxBufferBytes bounds the bytes of all bodies together that are being received or processed; beyond it the
	// response is 503. Defaults to 64 MiB.
	MaxBufferBytes int64
	// Timeout bounds the work on one delivery, from the signature to COMMIT. When it expires the response is 500 if handlers
	// took more than half of it, else 503. A handler that has not returned one second later is left behind: the response is
	// 500, and its connection is closed. Events with less than a second left are not batched. Defaults to 8s.
	Timeout time.Duration
	// AcquireTimeout bounds the wait for a connection of the pool; then the response is 503. Defaults to 5s.
	AcquireTimeout time.Duration
	// LockTimeout bounds the wait for other events of the same Stripe object in this process, and each wait for a lock
	// in PostgreSQL (lock_timeout), such as a lock that another process holds; then the response is 503, or 500 with a record if
	// it is a handler's statement that waits. With ByCustomer it bounds the waits for the customer and for the object each.
	// Defaults to 5s.
	LockTimeout time.Duration
	// CommitTimeout bounds the wait for PostgreSQL's answer to COMMIT and the writes sent with it, in addition to their lock
	// waits. Timeout does not interrupt it. When it expires the socket is closed without a cancel request, and the response
	// is 503: the transaction may have committed, and Stripe's retry finds out. Defaults to 5s.
	CommitTimeout time.Duration
	// MaxAttempts bounds the attempts of one delivery when PostgreSQL reports a serialization failure (40001) or a
	// deadlock (40P01). Defaults to 4.
	MaxAttempts int
	// MaxBatchSize is the maximum number of events in one batch, which is one transaction. Events that run no handler of the
	// host's, or only Batchable ones, are batched when they arrive while as many batches as allowed are in progress. Further
	// events of the same objects that run only a projection join in addition, at most as many again. If a batch fails, each
	// event is retried alone. 1 disables batches. At most 256. Defaults to 16.
	MaxBatchSize int
	// ConcurrentBatches bounds the batches in progress, each with a connection of the pool. Batches with Batchable handlers
	// and batches without have this limit each. Defaults to 2.
	ConcurrentBatches int
	// TargetWait is how long a delivery may wait for a connection of the pool, or for a batch, while the receiver keeps up.
	// When even the shortest wait has exceeded it for ShedAfter, deliveries arrive faster than they are processed: the
	// response to new ones is then 503 at once, except for as many as are processed within TargetWait. A burst is no overload
	// and is absorbed. Negative: deliveries are refused at MaxInFlight alone, and wait for up to AcquireTimeout. Defaults to 1s.
	TargetWait time.Duration
	// ShedAfter is how long the shortest wait must have exceeded TargetWait before deliveries are refused, and how long none
	// must have been refused before all are accepted again. Defaults to 5s.
	ShedAfter time.Duration
	// ReservedConnections is how many connections of the pool the events of one type leave to other types: a slow handler
	// then does not hold up all events. It applies while events of other types have arrived within the last minute, and not
	// to a pool of one. Negative: none. Defaults to a quarter of the pool, at least one.
	ReservedConnections int
	// AccountID is the id of the receiver's own account (acct_…), for tables that receivers of several accounts share. It is
	// the account of events that name none, and is never sent with a request to Stripe. Empty: such events have no account.
	AccountID string
	// AccountFor returns the account that a request is for, such as that of a tenant whose id is in the URL. It takes the place
	// of Secrets and APIKey. The event gets the account's ID, whatever its body says. Nil without an error: there is no such
	// account (404). An error: the lookup failed (503, and Stripe retries). Events from elsewhere (Apply, Replay) keep their
	// Account, and nothing is fetched for them. It may be called concurrently. Nil: there is one account.
	AccountFor func(req *http.Request) (*Account, error)
	// SerializeBy says which events run one after the other. Defaults to ByObject. Set ByCustomer in all replicas before
	// you rely on it.
	SerializeBy Serialization
	// RetryAfter is the Retry-After of a 503, in whole seconds. Stripe keeps its own schedule; other senders may honor it.
	// Defaults to 5s.
	RetryAfter time.Duration
	// APIKey is the secret, restricted or organization key for fetching objects from Stripe (Fetch, thin events). Events of the key's other
	// mode are handled as without a key. Empty: nothing is fetched.
	APIKey string
	// APIVersion is the version in which objects of /v1 are fetched, such as the one that the handlers' stripe-go was made for.
	// Defaults to the event's, else the account's.
	APIVersion string
	// APIBase is another address of Stripe's API, for tests. Defaults to Stripe's.
	APIBase string
	// FetchTimeout bounds one request to Stripe, within Timeout. Defaults to 3s.
	FetchTimeout time.Duration
	// ListRate bounds the requests a second for the rest of lists of which events hold only a part (FetchOptions.Lists). Such an
	// event takes three: the object, a page of up to 100 elements, and the object once more. Beyond the rate the object is
	// stored as the event has it, marked as incomplete, and completed in the background (subscriptions.CompleteItemsEvery),
	// which has a rate of its own. Stripe permits 100 reads a second in live mode and 25 in a sandbox:
	// https://docs.stripe.com/rate-limits. Defaults to 10 for each process; negative: none.
	ListRate int
	// OnFailure is called when an event has failed (500), after its record was written: to tell somebody. It runs in a goroutine
	// of its own, with a context that ends after NotifyTimeout; what it does has no effect on the event. It is not called for
	// infrastructure failures (503), but for an object that the API key may not read. docs/notifications.md has recipes for Slack,
	// e-mail and Sentry. Optional.
	OnFailure func(ctx context.Context, n Notice)
	// OnParked is OnFailure for an event that a handler has parked. Optional.
	OnParked func(ctx context.Context, n Notice)
	// NotifyEvery spaces the calls of OnFailure, and those of OnParked, in each process: three may come at once, and further ones one
	// after each such time. What is left out is counted in the next call (Notice.Suppressed). Defaults to 30s.
	NotifyEvery time.Duration
	// NotifyTimeout bounds one call. Defaults to 10s.
	NotifyTimeout time.Duration
	// Mode says whether live events, test events or both take effect. Defaults to ModeAny.
	Mode Mode
	// DropPayloads leaves the payload out of a failure's record (stripe_webhook_failures), which then says
	// only what failed and why. Payloads may hold personal data.
	DropPayloads bool
	// KeepPayloads stores the payload of every event that is recorded in stripe_webhook_payloads, in the event's transaction and
	// without members named client_secret and secret, so that Reprocess and Replay can be used for longer than the 30 days for which
	// Stripe has an event. operations.PrunePayloadsEvery deletes old ones. Payloads may hold personal data. It excludes DropPayloads.
	// Defaults to false.
	KeepPayloads bool
	// AssumeMigrated skips the lookup in the table stripeonce_migrations before the first delivery. It is for
	// hosts that apply the migrations with another tool than dbmate.
	AssumeMigrated bool
	// Logger receives one line for each delivery, without payloads or secrets. Defaults to slog.Default().
	Logger *slog.Logger
	// Tracer traces each delivery and what it does: otelwebhooks.NewTracer, for OpenTelemetry. The ids of the trace are then also in
	// the log, in the records of failures and in a Notice. Defaults to nil: nothing is traced.
	Tracer Tracer
}

func (c *Config) withDefaults() *Config {
	config := Config{}
	if c != nil {
		config = *c
	}
	config.Tolerance = or(config.Tolerance, webhook.DefaultTolerance)
	config.MaxBodyBytes = or(config.MaxBodyBytes, DefaultMaxBodyBytes)
	config.MaxInFlight = or(config.MaxInFlight, DefaultMaxInFlight)
	config.Timeout = or(config.Timeout, DefaultTimeout)
	config.MaxBufferBytes = or(config.MaxBufferBytes, DefaultMaxBufferBytes)
	config.LockTimeout = or(config.LockTimeout, DefaultLockTimeout)
	config.AcquireTimeout = or(config.AcquireTimeout, DefaultAcquireTimeout)
	config.CommitTimeout = or(config.CommitTimeout, DefaultCommitTimeout)
	config.MaxAttempts = or(config.MaxAttempts, DefaultMaxAttempts)
	config.FetchTimeout = or(config.FetchTimeout, DefaultFetchTimeout)
	config.MaxBatchSize = or(config.MaxBatchSize, DefaultMaxBatchSize)
	config.ConcurrentBatches = or(config.ConcurrentBatches, DefaultConcurrentBatches)
	config.ListRate = or(config.ListRate, DefaultListRate)
	config.RetryAfter = or(config.RetryAfter, DefaultRetryAfter)
	config.TargetWait = or(config.TargetWait, DefaultTargetWait)
	config.ShedAfter = or(config.ShedAfter, DefaultShedAfter)
	config.SerializeBy = or(config.SerializeBy, ByObject)
	config.Mode = or(config.Mode, ModeAny)
	config.Name = or(config.Name, DefaultName)
	config.NotifyEvery = or(config.NotifyEvery, DefaultNotifyEvery)
	config.NotifyTimeout = or(config.NotifyTimeout, DefaultNotifyTimeout)
	config.Logger = or(config.Logger, slog.Default())
	config.APIKey = signing.TrimAPIKey(config.APIKey)
	return &config
}

func or[T comparable](value, byDefault T) T {
	var zero T
	if value == zero {
		return byDefault
	}
	return value
}

// validate names every field that is wrong. It never shows a secret.
func (c *Config) validate() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("webhooks.Config."+format, args...))
	}
	switch err := signing.CheckSecrets(c.Secrets); {
	case c.AccountFor == nil && err != nil:
		wrong("Secrets: %w", err)
	case c.AccountFor != nil && (len(c.Secrets) > 0 || c.APIKey != "" || c.AccountID != ""):
		wrong("AccountFor takes the place of Secrets, APIKey and AccountID: leave them empty")
	}
	for name, text := range map[string]string{"AccountID": c.AccountID, "Name": c.Name} {
		if err := storableText(name, text); err != nil {
			wrong("%s: %w", name, err)
		}
	}
	for name, negative := range map[string]bool{
		"Tolerance": c.Tolerance < 0, "MaxBodyBytes": c.MaxBodyBytes < 0, "MaxInFlight": c.MaxInFlight < 0,
		"Timeout": c.Timeout < 0, "AcquireTimeout": c.AcquireTimeout < 0, "CommitTimeout": c.CommitTimeout < 0,
		"MaxBufferBytes": c.MaxBufferBytes < 0, "LockTimeout": c.LockTimeout < 0, "MaxAttempts": c.MaxAttempts < 0, "RetryAfter": c.RetryAfter < 0,
		"FetchTimeout": c.FetchTimeout < 0, "MaxBatchSize": c.MaxBatchSize < 0, "ConcurrentBatches": c.ConcurrentBatches < 0,
		"ShedAfter": c.ShedAfter < 0, "NotifyEvery": c.NotifyEvery < 0, "NotifyTimeout": c.NotifyTimeout < 0,
	} {
		if negative {
			wrong("%s is negative", name)
		}
	}
	if err := signing.CheckAPIKey(c.APIKey); err != nil {
		wrong("APIKey: %w", err)
	}
	if c.KeepPayloads && c.DropPayloads {
		wrong("KeepPayloads keeps the payload of every event, and DropPayloads that of none: set one of them")
	}
	if c.MaxBatchSize > batchSizeLimit {
		wrong("MaxBatchSize is %d: use at most %d, since each event of a batch holds a lock in PostgreSQL", c.MaxBatchSize, batchSizeLimit)
	}
	if c.Mode != ModeAny && c.Mode != ModeLive && c.Mode != ModeTest {
		wrong("Mode is %q: use %q, %q or %q", c.Mode, ModeAny, ModeLive, ModeTest)
	}
	if c.SerializeBy != ByObject && c.SerializeBy != ByCustomer {
		wrong("SerializeBy is %q: use %q or %q", c.SerializeBy, ByObject, ByCustomer)
	}
	return errors.Join(errs...)
}

// reservedConnections returns how many of a pool's connections one type leaves to others.
func (c *Config) reservedConnections(maxConns int32) int {
	if c.ReservedConnections == 0 {
		return max(int(maxConns)/4, 1)
	}
	return c.ReservedConnections
}

// SplitSecrets splits a text that holds several secrets, such as STRIPE_WEBHOOK_SECRET while a secret is rolled, into
// the entries of Config.Secrets. Commas and line ends separate them. White space around each is dropped; an empty entry
// is kept, for New to refuse.
func SplitSecrets(value string) []string { return signing.Split(value) }
