package webhooks

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/internal/signing"
)

// Mode says which events take effect.
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
	DefaultMaxBodyBytes       = 1 << 20
	DefaultMaxInFlight        = 1000
	DefaultMaxBufferBytes     = 64 << 20
	DefaultTimeout            = 8 * time.Second
	DefaultAcquireTimeout     = 5 * time.Second
	DefaultLockTimeout        = 5 * time.Second
	DefaultCommitTimeout      = 5 * time.Second
	DefaultMaxAttempts        = 4
	DefaultMaxShared          = 16
	DefaultSharedTransactions = 2
	DefaultAskTimeout         = 3 * time.Second
	DefaultRetryAfter         = 5 * time.Second
	// MaxErrorLength is how many bytes of an error's text a failure's record keeps.
	MaxErrorLength = 2000
)

// greatestMaxShared bounds Config.MaxShared: each event in a shared transaction holds a lock in PostgreSQL, which has room
// for max_locks_per_transaction of them for each connection.
const greatestMaxShared = 256

// Config configures a Receiver. Every zero field but Secrets has a sane default.
type Config struct {
	// Secrets are the signing secrets (whsec_…) of which any may have signed a delivery: several while
	// one is rolled, the newest first, or for several endpoints. An entry may have a label,
	// "label=whsec_…", by which Stats tell what it last verified. Required; empty ones are refused, since a
	// signature made with the empty secret is anybody's, and so are placeholders.
	Secrets []string
	// Tolerance is how old a signature's timestamp may be. 0: stripe-go's 5 minutes.
	Tolerance time.Duration
	// MaxBodyBytes bounds a delivery's body; a larger one is answered 413. 0: DefaultMaxBodyBytes, 1 MiB.
	MaxBodyBytes int64
	// MaxInFlight bounds the deliveries that are worked on or wait: for a connection, for a copy of theirs,
	// for another event of the same object. Further ones are answered 503 at once. 0: DefaultMaxInFlight.
	MaxInFlight int
	// MaxBufferBytes bounds the bytes of all bodies together that are being received or worked on; what
	// goes beyond is answered 503. 0: DefaultMaxBufferBytes, 64 MiB.
	MaxBufferBytes int64
	// Timeout bounds the work on one delivery, from the signature to COMMIT. Then the reply is 500.
	// 0: DefaultTimeout.
	Timeout time.Duration
	// AcquireTimeout bounds the wait for a connection of the pool; then the reply is 503. 0: DefaultAcquireTimeout.
	AcquireTimeout time.Duration
	// LockTimeout bounds the wait for other events of the same Stripe object in this process, and each wait for a
	// lock in PostgreSQL (lock_timeout), such as one that another process holds; then the reply is 503.
	// 0: DefaultLockTimeout.
	LockTimeout time.Duration
	// CommitTimeout bounds the wait for the answer to COMMIT and what travels with it, besides what a lock may
	// take; Timeout does not interrupt it. Then the
	// socket is closed, without a cancel request, and the reply is 503: PostgreSQL may have committed,
	// and Stripe's retry finds out. 0: DefaultCommitTimeout.
	CommitTimeout time.Duration
	// MaxAttempts bounds how often one delivery is tried when PostgreSQL reports a serialization failure
	// (40001) or a deadlock (40P01). 0: DefaultMaxAttempts.
	MaxAttempts int
	// MaxShared bounds how many events share a transaction: of those that run no function of the host's, and come
	// while SharedTransactions are under way. Each takes effect with its record or not at all; if PostgreSQL refuses
	// one, each has a transaction of its own. 1: none do. At most 256. 0: DefaultMaxShared.
	MaxShared int
	// SharedTransactions bounds how many such transactions are under way at once, each with a connection of the pool.
	// 0: DefaultSharedTransactions.
	SharedTransactions int
	// RetryAfter is the Retry-After of a 503, in whole seconds. Stripe keeps its own schedule; other
	// senders may heed it. 0: DefaultRetryAfter.
	RetryAfter time.Duration
	// APIKey is the secret or restricted key with which Stripe is asked for current objects (Ask, thin
	// events). Events of the other mode count as if there were none. Empty: Stripe is never asked.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Empty: Stripe's.
	APIBase string
	// AskTimeout bounds one question to Stripe, within Timeout. 0: DefaultAskTimeout.
	AskTimeout time.Duration
	// Mode says whether live events, test events or both take effect. "": ModeAny.
	Mode Mode
	// DropPayloads leaves the payload out of a failure's record (stripe_webhook_failures), which then says
	// only what failed and why. Payloads may hold personal data.
	DropPayloads bool
	// AssumeMigrated skips the look into the table stripeonce_migrations before the first delivery. For
	// hosts that apply the migrations with another tool than dbmate.
	AssumeMigrated bool
	// Logger gets one line for each delivery, without payloads or secrets. Nil: slog.Default().
	Logger *slog.Logger
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
	config.AskTimeout = or(config.AskTimeout, DefaultAskTimeout)
	config.MaxShared = or(config.MaxShared, DefaultMaxShared)
	config.SharedTransactions = or(config.SharedTransactions, DefaultSharedTransactions)
	config.RetryAfter = or(config.RetryAfter, DefaultRetryAfter)
	config.Mode = or(config.Mode, ModeAny)
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
	if err := signing.CheckSecrets(c.Secrets); err != nil {
		wrong("Secrets: %w", err)
	}
	for name, negative := range map[string]bool{
		"Tolerance": c.Tolerance < 0, "MaxBodyBytes": c.MaxBodyBytes < 0, "MaxInFlight": c.MaxInFlight < 0,
		"Timeout": c.Timeout < 0, "AcquireTimeout": c.AcquireTimeout < 0, "CommitTimeout": c.CommitTimeout < 0,
		"MaxBufferBytes": c.MaxBufferBytes < 0, "LockTimeout": c.LockTimeout < 0, "MaxAttempts": c.MaxAttempts < 0, "RetryAfter": c.RetryAfter < 0,
		"AskTimeout": c.AskTimeout < 0, "MaxShared": c.MaxShared < 0, "SharedTransactions": c.SharedTransactions < 0,
	} {
		if negative {
			wrong("%s is negative", name)
		}
	}
	if err := signing.CheckAPIKey(c.APIKey); err != nil {
		wrong("APIKey: %w", err)
	}
	if c.MaxShared > greatestMaxShared {
		wrong("MaxShared is %d: use at most %d, since each event that shares a transaction holds a lock in PostgreSQL", c.MaxShared, greatestMaxShared)
	}
	if c.Mode != ModeAny && c.Mode != ModeLive && c.Mode != ModeTest {
		wrong("Mode is %q: use %q, %q or %q", c.Mode, ModeAny, ModeLive, ModeTest)
	}
	return errors.Join(errs...)
}

// SplitSecrets splits a text that holds several secrets, such as STRIPE_WEBHOOK_SECRET while a secret is rolled, into
// the entries of Config.Secrets. Commas and line ends separate them. White space around each is dropped; an empty entry
// is kept, for New to refuse.
func SplitSecrets(value string) []string { return signing.Split(value) }
