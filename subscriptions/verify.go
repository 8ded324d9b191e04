package subscriptions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/storable"
	"github.com/pook/stripeonce/internal/stripeapi"
	"github.com/pook/stripeonce/webhooks"
)

// The defaults of VerifyConfig.
const (
	DefaultVerifyTimeout  = stripeapi.BackgroundTimeout
	DefaultVerifyAttempts = stripeapi.BackgroundAttempts
	DefaultVerifyRate     = 20
)

// ErrRefused is wrapped by Verify's error if Gone would mark too many rows.
var ErrRefused = errors.New("refused")

// verifyVersion is the API version of Verify's requests: the first that has billing_mode and a period on each item.
// See https://docs.stripe.com/changelog/basil/2025-06-30/billing-mode.
const verifyVersion = "2025-06-30.basil"

// VerifyConfig configures Verify.
type VerifyConfig struct {
	// APIKey is the secret or restricted key that reads subscriptions. Only rows of its mode are compared. Required.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Defaults to Stripe's.
	APIBase string
	// APITimeout bounds one attempt of a request. A request is attempted DefaultVerifyAttempts times if Stripe answers
	// 429 or 5xx, or does not answer. Defaults to DefaultVerifyTimeout.
	APITimeout time.Duration
	// Fix stores Stripe's object if a row differs from it or is missing, in transactions of this receiver and through
	// Projection. This is also how existing subscriptions are imported. Optional.
	Fix *webhooks.Receiver
	// Projection is the result of Register for that receiver's handlers. Its OnChange is called for each stored
	// subscription, with a nil Event. Required with Fix.
	Projection *Projection
	// NoHooks turns off OnChange.
	NoHooks bool
	// Gone marks rows as canceled whose subscription Stripe does not have any more, as after the deletion of test data or of a
	// test clock. Requires Fix. It is refused (ErrRefused) if more than 1 % of the subscriptions would be marked, since the API
	// key may be of another account or sandbox, unless Force is set.
	Gone, Force bool
	// AccountID is webhooks.Config.AccountID: only rows of this account and of Accounts are compared. Rows without an account
	// are compared if Stripe lists their subscriptions, and get this one. Empty: all accounts that have rows.
	AccountID string
	// Accounts are connected accounts to compare in addition to those that have rows already.
	Accounts []string
	// Rate bounds the requests to Stripe, per second. Defaults to DefaultVerifyRate. Stripe permits 100 reads a second in live
	// mode and 25 in a sandbox: https://docs.stripe.com/rate-limits.
	Rate int
	// After resumes an interrupted run: set it to that run's Verified.Position.
	After string
	// Each is called with each field that differs. Optional.
	Each func(Difference)
	// Progress is called with the numbers so far after each page of Stripe's list. Optional.
	Progress func(Verified)
	// Logger receives errors of storing a subscription, and warnings of retried requests. Defaults to slog.Default().
	Logger *slog.Logger
}

// Verified is the result of Verify.
type Verified struct {
	Checked int `json:"checked"` // subscriptions of Stripe's list and of the table
	Drifted int `json:"drifted"` // checked subscriptions that differ, are missing here, or are unknown to Stripe
	Fixed   int `json:"fixed"`   // drifted subscriptions that now match Stripe's
	// Unknown is how many of the drifted ones Stripe does not have.
	Unknown int `json:"-"`
	// Position is the last subscription of Stripe's list that an interrupted run has completed. It is empty if the run
	// completed, or was interrupted before the first page.
	Position string `json:"-"`
}

// verification is one run of Verify.
type verification struct {
	config    VerifyConfig
	pool      *pgxpool.Pool
	queries   *db.Queries
	api       *stripeapi.Client
	livemode  *bool // nil: the key does not show its mode
	sum       Verified
	postponed map[string]postponed // of CompleteItemsEvery, by id
	gone      []*reading           // rows whose subscription Stripe does not have any more
	broken    bool                 // an account failed: Position stays before it
}

// Verify compares the table with Stripe's subscriptions in both directions, account by account. A difference counts only
// if reading both sides again confirms it. Verify holds one page of Stripe's list in memory at a time.
func Verify(ctx context.Context, pool *pgxpool.Pool, config *VerifyConfig) (Verified, error) {
	v, err := newVerification(pool, config)
	if err != nil {
		return Verified{}, err
	}
	err = v.accounts(ctx)
	if err == nil {
		err = v.resolveGone(ctx)
	}
	return v.sum, err
}

func newVerification(pool *pgxpool.Pool, config *VerifyConfig) (*verification, error) {
	v := &verification{config: *config, pool: pool, queries: db.New(), postponed: map[string]postponed{}}
	switch {
	case config.APIKey == "":
		return nil, errors.New("subscriptions.VerifyConfig.APIKey is empty")
	case config.Fix != nil && config.Projection == nil:
		return nil, errors.New("subscriptions.VerifyConfig.Projection is nil: set it to the result of Register")
	case config.Gone && config.Fix == nil:
		return nil, errors.New("subscriptions.VerifyConfig.Fix is nil: Gone requires it")
	}
	if v.config.Logger == nil {
		v.config.Logger = slog.Default()
	}
	if v.config.APITimeout == 0 {
		v.config.APITimeout = DefaultVerifyTimeout
	}
	v.api = stripeapi.New(stripeapi.Config{
		Key: config.APIKey, Base: config.APIBase, Timeout: v.config.APITimeout, Attempts: DefaultVerifyAttempts,
		Own: v.config.AccountID, Rate: cmp.Or(config.Rate, DefaultVerifyRate), Logger: v.config.Logger,
	})
	if livemode, known := stripeapi.Mode(config.APIKey); known {
		v.livemode = &livemode
		probe := &webhooks.Event{Type: "customer.subscription.updated", Livemode: livemode}
		if config.Fix != nil && !config.Fix.Handles(probe) {
			return nil, errors.New("the API key belongs to the mode that the receiver ignores: set STRIPE_MODE to the key's mode, or use a key of the other mode")
		}
	}
	return v, nil
}

// request returns a request to Stripe on behalf of an account. The key's own is not named.
func (v *verification) request(account, path string, values url.Values) stripeapi.Request {
	return stripeapi.Request{Path: path, Values: values, Account: account, Version: verifyVersion}
}

// accounts compares each account, in order. It continues after an account that fails.
func (v *verification) accounts(ctx context.Context) error {
	var stored []string
	if v.config.AccountID == "" {
		var err error
		if stored, err = v.queries.SubscriptionAccountList(ctx, v.pool); err != nil {
			return fmt.Errorf("list the accounts: %w", err)
		}
	}
	from, after := "", v.config.After
	if account, id, ok := strings.Cut(after, "/"); ok {
		from, after = account, id
	}
	var failed []error
	for _, account := range inOrder(v.config.AccountID, stored, v.config.Accounts) {
		if account < from {
			continue
		}
		w := &walk{verification: v, account: account, boundary: map[string]bool{}, unreadable: map[string]error{}}
		if account == from {
			w.after = after
		}
		err := w.run(ctx)
		failed = slices.AppendSeq(failed, maps.Values(w.unreadable))
		v.broken = v.broken || err != nil
		switch {
		case ctx.Err() != nil:
			return errors.Join(append(failed, ctx.Err())...)
		case err != nil && account != v.config.AccountID:
			failed = append(failed, fmt.Errorf("account %s: %w", account, stripeapi.Explain(err)))
		case err != nil:
			failed = append(failed, stripeapi.Explain(err))
		}
	}
	if !v.broken {
		v.sum.Position = ""
	}
	return errors.Join(failed...)
}

// reading is one subscription, read from the table and from Stripe at about the same time.
type reading struct {
	id         string
	local      *storedRow    // nil: not in the table
	stripe     *Subscription // nil: not at Stripe
	asOf       time.Time     // the Date of Stripe's response
	apiVersion string
}

func (r *reading) differences() []Difference {
	switch {
	case r.local == nil:
		return differences(r.id, nil, r.stripe)
	case r.stripe == nil && r.local.Status.Terminal(): // it ended, and was deleted at Stripe
		return nil
	}
	return differences(r.id, r.local.Subscription, r.stripe)
}

// same reports whether neither side changed between two readings.
func (r *reading) same(other *reading) bool {
	if revisionOf(r.local) != revisionOf(other.local) || (r.stripe == nil) != (other.stripe == nil) {
		return false
	}
	return r.stripe == nil || sameState(r.stripe, other.stripe)
}

// get fetches one subscription from Stripe.
func (v *verification) get(ctx context.Context, id, account string) (*reading, error) {
	r := &reading{id: id}
	response, err := v.api.Whole(ctx, v.request(account, "/v1/subscriptions/"+url.PathEscape(id), nil), lists)
	switch {
	case errors.Is(err, stripeapi.ErrTruncated):
		v.config.Logger.WarnContext(ctx, "the rest of a subscription's items cannot be read", "subscription", id, "error", stripeapi.Explain(err))
	case stripeapi.IsMissing(err):
		return r, nil
	case err != nil:
		return nil, fmt.Errorf("get subscription %s: %w", id, err)
	}
	if err := r.read(response.Body, response.Date, response.Version, account); err != nil {
		return nil, fmt.Errorf("subscription %s: %w", id, err)
	}
	return r, nil
}

func (r *reading) read(body []byte, asOf time.Time, apiVersion, account string) error {
	object, err := storable.JSON(body)
	if err != nil {
		return fmt.Errorf("Stripe's subscription: %w", err) //nolint:staticcheck // a name
	}
	if r.stripe, err = readResponse(object, apiVersion, account); err != nil {
		return err
	}
	r.id, r.asOf, r.apiVersion = r.stripe.ID, asOf, apiVersion
	return nil
}

// locals reads the rows of several readings with one query.
func (v *verification) locals(ctx context.Context, readings []*reading) error {
	byID := map[string]*reading{}
	ids := make([]string, len(readings))
	for i, r := range readings {
		ids[i], byID[r.id] = r.id, r
		r.local = nil
	}
	rows, err := v.queries.SubscriptionList(ctx, v.pool, db.SubscriptionListParams{Ids: ids})
	if err != nil {
		return fmt.Errorf("list subscriptions: %w", err)
	}
	for i := range rows {
		stored, err := storedFrom(&rows[i])
		if err != nil {
			return err
		}
		byID[stored.ID].local = stored
	}
	return nil
}

// list returns the request for the account's subscriptions, including those that have ended.
func (v *verification) list(account string) stripeapi.Request {
	return v.request(account, "/v1/subscriptions", url.Values{"status": {"all"}, "limit": {strconv.Itoa(stripeapi.PageSize)}})
}
