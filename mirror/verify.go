package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/objecttypes"
	"github.com/pook/stripeonce/webhooks"
)

// ErrRefused reports that Verify marked no row as deleted, since VerifyConfig.Gone would mark more than 1 % of a type's objects. Set
// VerifyConfig.Force if that is right.
var ErrRefused = errors.New("refused")

// VerifyConfig configures Verify.
type VerifyConfig struct {
	// Types are the types to compare, whether or not they are mirrored. Types that the API does not have are refused. Required.
	Types []string
	// APIKey is the secret or restricted key that reads the objects. Only rows of its mode are compared. Required.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Defaults to Stripe's.
	APIBase string
	// APITimeout bounds one attempt of a request. Defaults to 30 s.
	APITimeout time.Duration
	// Fix is the receiver in whose transactions Stripe's object is stored if a row differs from it or is missing. This is also how
	// existing objects are imported. Nil: differences are only reported.
	Fix *webhooks.Receiver
	// Projection is the result of Register for that receiver's handlers. Its OnChange is called for each stored object, with a nil
	// Event. Without it, none is.
	Projection *Projection
	// NoHooks stores objects without a call of OnChange.
	NoHooks bool
	// Gone marks rows as deleted if Stripe no longer has their object. Requires Fix. It is refused (ErrRefused) if more than
	// 1 % of a type's objects would be marked, unless Force is set.
	Gone, Force bool
	// AccountID is webhooks.Config.AccountID: only rows of this account and of Accounts are compared. Empty: all accounts that have
	// rows.
	AccountID string
	// Accounts are connected accounts to compare in addition to those that have rows already.
	Accounts []string
	// Account compares the objects of this account alone, whether or not it has rows: a connected one, or "" for the API key's own.
	// Nil: the accounts above.
	Account *string
	// Rate bounds the requests to Stripe, per second. Defaults to 20. Stripe permits 100 reads a second in live mode and 25 in a
	// sandbox: https://docs.stripe.com/rate-limits.
	Rate int
	// Only compares the object of this id alone, of the one type in Types. Empty: all.
	Only string
	// Customer compares the objects of one customer alone: of types that Stripe can list by customer, and the rows of that
	// customer. Empty: all.
	Customer string
	// After resumes an interrupted run: set it to that run's VerifyResult.Position.
	After string
	// Each is called with each field that differs. Optional.
	Each func(Difference)
	// Progress is called with the numbers so far after each page of Stripe's lists. Optional.
	Progress func(VerifyResult)
	// Logger receives errors of storing an object, and warnings of retried requests. Defaults to slog.Default().
	Logger *slog.Logger
}

// Difference is one field in which a stored object differs from Stripe's. The JSON names are those of the commands' output.
type Difference struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	// Field is the field of the object. It is "id" if one side does not have the object, "deleted", or "lists_complete" if one side has only a
	// part of a list.
	Field  string `json:"field"`
	Local  any    `json:"local"`
	Stripe any    `json:"stripe"`
}

// VerifyResult counts the objects that Verify compared.
type VerifyResult struct {
	Checked int `json:"checked"` // objects of Stripe's lists and of the table
	Drifted int `json:"drifted"` // checked objects that differ, are missing here, or are unknown to Stripe
	Fixed   int `json:"fixed"`   // drifted objects that now match Stripe's
	// Unknown is how many of the drifted ones Stripe does not have.
	Unknown int `json:"-"`
	// Position is where an interrupted run can be resumed. It is empty if the run completed, or was interrupted at its beginning.
	Position string `json:"-"`
}

// Verify compares the mirrored objects with Stripe's in both directions, type by type and account by account. With VerifyConfig.Fix
// it also stores Stripe's. A difference counts only if reading both sides again confirms it. An object is compared in the API
// version of its row. Verify holds one page of Stripe's list in memory at a time.
func Verify(ctx context.Context, pool *pgxpool.Pool, config *VerifyConfig) (sum VerifyResult, err error) {
	types, err := config.types()
	if err != nil {
		return sum, err
	}
	from, after, _ := strings.Cut(config.After, " ")
	var failed []error
	for _, object := range types {
		if object < from {
			continue
		}
		if object != from {
			after = ""
		}
		done := sum
		add := func(of engine.Verified) VerifyResult {
			all := VerifyResult{done.Checked + of.Checked, done.Drifted + of.Drifted, done.Fixed + of.Fixed, done.Unknown + of.Unknown, ""}
			if of.Position.ID != "" || done.Checked > 0 {
				all.Position = object + " " + of.Position.String()
			}
			return all
		}
		c := config.of(object)
		c.From = engine.ParsePosition(after)
		if config.Progress != nil {
			c.Progress = func(_ context.Context, of engine.Verified) error {
				config.Progress(add(of))
				return nil
			}
		}
		of, err := config.engine(object).Verify(ctx, pool, c)
		sum = add(of)
		switch {
		case ctx.Err() != nil:
			return sum, ctx.Err()
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", object, err))
		}
	}
	sum.Position = ""
	return sum, errors.Join(failed...)
}

// Job imports and compares the objects of one type, whose name is its field Type. Pass it to operations.Operator.Backfill and
// operations.Operator.VerifyEvery; its other fields are for these alone.
type Job = engine.Job

// Jobs returns a job for each of VerifyConfig.Types, sorted by type, for operations.Operator.Backfill, which imports what exists at
// Stripe, and for operations.Operator.VerifyEvery.
//
// VerifyConfig.Fix is required. Only, Customer, Account, Gone, After and Progress are not used. The error names a type that Stripe's
// API does not have. An import stores the objects of a page in one transaction if there is no OnChange, or with NoHooks.
func Jobs(pool *pgxpool.Pool, config *VerifyConfig) (jobs []Job, err error) {
	if config.Fix == nil {
		return nil, errors.New("mirror.VerifyConfig.Fix is nil: Jobs requires it")
	}
	all := *config
	all.Only, all.Customer, all.Account, all.Gone, all.Force = "", "", nil, false, false
	types, err := all.types()
	for _, object := range types {
		jobs = append(jobs, all.engine(object).Job(pool, all.of(object)))
	}
	return jobs, err
}

// types returns Types, each once, sorted.
func (c *VerifyConfig) types() ([]string, error) {
	types := slices.Compact(slices.Sorted(slices.Values(c.Types)))
	switch err := objecttypes.Comparable(types); {
	case len(types) == 0:
		return nil, errors.New("mirror.VerifyConfig.Types is empty")
	case err != nil:
		return nil, fmt.Errorf("mirror.VerifyConfig.Types: %w", err)
	case c.Only != "" && len(types) > 1:
		return nil, errors.New("mirror.VerifyConfig.Types has several types: Only requires one")
	}
	return types, nil
}

// engine returns the engine of a type: the receiver's own, so that its OnChange is called, or a new one.
func (c *VerifyConfig) engine(object string) *engine.Engine[Object] {
	if c.Projection != nil && c.Projection.engines[object] != nil {
		return c.Projection.engines[object]
	}
	return newEngine(ruleOf(object), &Config{Logger: c.Logger})
}

// of returns the configuration of one type.
func (c *VerifyConfig) of(object string) *engine.VerifyConfig {
	config := &engine.VerifyConfig{
		APIKey: c.APIKey, APIBase: c.APIBase, APITimeout: c.APITimeout, Fix: c.Fix, NoHooks: c.NoHooks, Gone: c.Gone, Force: c.Force,
		AccountID: c.AccountID, Accounts: c.Accounts, Account: c.Account, Rate: c.Rate, Only: c.Only, Customer: c.Customer, Logger: c.Logger,
	}
	if c.Customer != "" && objecttypes.Of(object).KeyedByCustomer() { // there is one
		config.Only, config.Customer = c.Customer, ""
	}
	if c.Each != nil {
		config.Each = func(d engine.Difference) { c.Each(Difference{object, d.ID, d.Field, d.Local, d.Stripe}) }
	}
	return config
}

// CompleteListsEvery fetches the objects of which only a part of a list is stored (Object.Complete is false), and stores them
// whole, at once and then at each interval, until ctx ends. Run it in the background: where the rest of a list cannot be fetched at
// once, the row waits for this. It takes three requests for a row, at most VerifyConfig.Rate a second, and without such rows it
// makes one indexed query. Only one process per database does so at a time. Errors are logged. A row that cannot be completed is
// tried again after a minute, then after two, and so on up to a day. VerifyConfig.Fix is required; Gone, Accounts, After, Each and
// Progress are not used.
func CompleteListsEvery(ctx context.Context, pool *pgxpool.Pool, every time.Duration, config *VerifyConfig) error {
	if config.Fix == nil {
		return errors.New("mirror.VerifyConfig.Fix is nil: CompleteListsEvery requires it")
	}
	var complete []func(ctx context.Context)
	for _, object := range config.Types {
		rule := ruleOf(object)
		if rule.Path == "" || len(rule.Lists) == 0 {
			continue
		}
		one, err := config.engine(object).Completion(pool, config.of(object))
		if err != nil {
			return err
		}
		complete = append(complete, one)
	}
	engine.CompleteEvery(ctx, every, complete...)
	return nil
}
