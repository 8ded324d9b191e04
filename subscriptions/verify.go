package subscriptions

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/webhooks"
)

// The defaults of VerifyConfig.
const (
	DefaultVerifyTimeout  = 30 * time.Second
	DefaultVerifyAttempts = 8
	DefaultVerifyRate     = 20 // requests a second
)

// ErrRefused reports that Verify marked no row as canceled, since VerifyConfig.Gone would mark more than 1 % of the subscriptions. Set
// VerifyConfig.Force if that is right.
var ErrRefused = errors.New("refused")

// VerifyConfig configures Verify.
type VerifyConfig struct {
	// APIKey is the secret or restricted key that reads subscriptions. Only rows of its mode are compared. Required.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Defaults to Stripe's.
	APIBase string
	// APITimeout bounds one attempt of a request. A request is attempted DefaultVerifyAttempts times if Stripe answers
	// 429 or 5xx, or does not answer. Defaults to DefaultVerifyTimeout.
	APITimeout time.Duration
	// Fix is the receiver in whose transactions Stripe's object is stored if a row differs from it or is missing. This is also how
	// existing subscriptions are imported. It requires Projection. Nil: differences are only reported.
	Fix *webhooks.Receiver
	// Projection is the result of Register for that receiver's handlers. Its OnChange is called for each stored
	// subscription, with a nil Event. Required with Fix.
	Projection *Projection
	// NoHooks stores subscriptions without a call of OnChange.
	NoHooks bool
	// Gone marks rows as canceled if Stripe no longer has their subscription, as after the deletion of test data or of a
	// test clock. Requires Fix. It is refused (ErrRefused) if more than 1 % of the subscriptions would be marked, since the API
	// key may be of another account or sandbox, unless Force is set.
	Gone, Force bool
	// AccountID is webhooks.Config.AccountID: only rows of this account and of Accounts are compared. Rows without an account
	// are compared if Stripe lists their subscriptions, and get this one. Empty: all accounts that have rows.
	AccountID string
	// Accounts are connected accounts to compare in addition to those that have rows already.
	Accounts []string
	// Account compares the subscriptions of this account alone, whether or not it has rows: a connected one, or "" for the API key's
	// own. Nil: the accounts above.
	Account *string
	// Rate bounds the requests to Stripe, per second. Defaults to DefaultVerifyRate. Stripe permits 100 reads a second in live
	// mode and 25 in a sandbox: https://docs.stripe.com/rate-limits.
	Rate int
	// Only compares the subscription of this id alone, and Customer those of one customer. Empty: all.
	Only, Customer string
	// After resumes an interrupted run: set it to that run's VerifyResult.Position.
	After string
	// Each is called with each field that differs. Optional.
	Each func(Difference)
	// Progress is called with the numbers so far after each page of Stripe's list. Optional.
	Progress func(VerifyResult)
	// Logger receives errors of storing a subscription, and warnings of retried requests. Defaults to slog.Default().
	Logger *slog.Logger
}

// VerifyResult counts the subscriptions that Verify compared.
type VerifyResult struct {
	Checked int `json:"checked"` // subscriptions of Stripe's list and of the table
	Drifted int `json:"drifted"` // checked subscriptions that differ, are missing here, or are unknown to Stripe
	Fixed   int `json:"fixed"`   // drifted subscriptions that now match Stripe's
	// Unknown is how many of the drifted ones Stripe does not have.
	Unknown int `json:"-"`
	// Position is the last subscription of Stripe's list that an interrupted run has completed. It is empty if the run
	// completed, or was interrupted before the first page.
	Position string `json:"-"`
}

// Verify compares the table with Stripe's subscriptions in both directions, account by account. With VerifyConfig.Fix it also
// stores Stripe's. A difference counts only if reading both sides again confirms it. Verify holds one page of Stripe's list in
// memory at a time.
func Verify(ctx context.Context, pool *pgxpool.Pool, config *VerifyConfig) (VerifyResult, error) {
	e, c, err := config.engine()
	if err != nil {
		return VerifyResult{}, err
	}
	sum, err := e.Verify(ctx, pool, c)
	return verified(sum), err
}

func verified(sum engine.Verified) VerifyResult {
	return VerifyResult{sum.Checked, sum.Drifted, sum.Fixed, sum.Unknown, sum.Position.String()}
}

// Job imports and compares subscriptions. Pass it to operations.Operator.Backfill and operations.Operator.VerifyEvery; its fields are
// for these alone.
type Job = engine.Job

// NewJob returns the job of subscriptions for operations.Operator.Backfill, which imports what exists at Stripe, and for
// operations.Operator.VerifyEvery.
//
// VerifyConfig.Fix and Projection are required. Only, Customer, Account, Gone, After and Progress are not used. An import stores the
// subscriptions of a page in one transaction if there is no OnChange, or with NoHooks.
func NewJob(pool *pgxpool.Pool, config *VerifyConfig) (Job, error) {
	if config.Fix == nil {
		return Job{}, errors.New("subscriptions.VerifyConfig.Fix is nil: NewJob requires it")
	}
	e, c, err := config.engine()
	if err != nil {
		return Job{}, err
	}
	c.Only, c.Customer, c.Account, c.Gone, c.Force = "", "", nil, false, false
	return e.Job(pool, c), nil
}

// CompleteItems fetches the subscriptions of which only a part of the items is stored (items_complete is false), and stores
// them whole, as Verify with Fix does; OnChange is called. Run it in the background: where an event has only a part of the
// items and the rest cannot be fetched at once, the row waits for this. It takes three requests for a row, at most
// VerifyConfig.Rate a second, and without such rows it makes one indexed query. It returns the number of rows that it
// completed, also with an error. VerifyConfig.Fix is required; Gone, Accounts, After, Each and Progress are not used.
func CompleteItems(ctx context.Context, pool *pgxpool.Pool, config *VerifyConfig) (completed int, err error) {
	if config.Fix == nil {
		return 0, errors.New("subscriptions.VerifyConfig.Fix is nil: CompleteItems requires it")
	}
	e, c, err := config.engine()
	if err != nil {
		return 0, err
	}
	return e.Complete(ctx, pool, c)
}

// CompleteItemsEvery calls CompleteItems at once and then at each interval, until ctx ends. Only one process per database does
// so at a time; it holds a connection of the pool while there is something to complete. Errors are logged. A row that cannot
// be completed is tried again after a minute, then after two, and so on up to a day.
func CompleteItemsEvery(ctx context.Context, pool *pgxpool.Pool, every time.Duration, config *VerifyConfig) error {
	e, c, err := config.engine()
	if err != nil {
		return err
	}
	complete, err := e.Completion(pool, c)
	if err != nil {
		return err
	}
	engine.CompleteEvery(ctx, every, complete)
	return nil
}

// engine returns the engine that compares, with its configuration.
func (c *VerifyConfig) engine() (*engine.Engine[Subscription], *engine.VerifyConfig, error) {
	config := &engine.VerifyConfig{
		APIKey: c.APIKey, APIBase: c.APIBase, APITimeout: c.APITimeout, Fix: c.Fix, NoHooks: c.NoHooks, Gone: c.Gone, Force: c.Force,
		AccountID: c.AccountID, Accounts: c.Accounts, Account: c.Account, Rate: c.Rate, Only: c.Only, Customer: c.Customer, From: engine.ParsePosition(c.After), Logger: c.Logger,
	}
	if c.Each != nil {
		config.Each = func(d engine.Difference) { c.Each(Difference{d.ID, d.Field, d.Local, d.Stripe}) }
	}
	if c.Progress != nil {
		config.Progress = func(_ context.Context, sum engine.Verified) error {
			c.Progress(verified(sum))
			return nil
		}
	}
	switch {
	case c.Projection != nil:
		return c.Projection.engine, config, nil
	case c.Fix != nil:
		return nil, nil, errors.New("subscriptions.VerifyConfig.Projection is nil: set it to the result of Register")
	}
	return newEngine(&Config{Logger: c.Logger}), config, nil
}
