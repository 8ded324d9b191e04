package subscriptions

import (
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
)

// verifyVersion is the API version that Verify asks in: the first that gives each item its own period and has
// billing_mode. See https://docs.stripe.com/changelog/basil/2025-06-30/billing-mode.
const verifyVersion = "2025-06-30.basil"

// VerifyConfig configures Verify.
type VerifyConfig struct {
	// APIKey is the secret or restricted key that reads subscriptions. Only rows of its mode are compared.
	// Required.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Empty: Stripe's.
	APIBase string
	// APITimeout bounds one request, which is tried DefaultVerifyAttempts times while Stripe answers 429 or
	// 5xx, or not at all. 0: DefaultVerifyTimeout.
	APITimeout time.Duration
	// Fix, if set, stores Stripe's object where a row differs from it or is missing: in transactions of this
	// receiver, through Projection. That is also how the subscriptions that exist already get in on the first
	// day.
	Fix *webhooks.Receiver
	// Projection is what Register returned for that receiver's handlers. Its OnChange is called for each
	// subscription that is stored, with a nil Event. Required with Fix.
	Projection *Projection
	// NoHooks leaves OnChange out.
	NoHooks bool
	// Accounts are connected accounts to ask beside those that have rows already.
	Accounts []string
	// After goes on where an earlier call was interrupted: at its Verified.Position.
	After string
	// Each, if set, is told of each field that differs.
	Each func(Difference)
	// Progress, if set, is told of the figures after each page of Stripe's list.
	Progress func(Verified)
	// Logger is told what could not be stored, and of waiting for Stripe. Nil: slog.Default().
	Logger *slog.Logger
}

// Verified is the sum of Verify.
type Verified struct {
	Checked int `json:"checked"` // subscriptions, of Stripe's or of the table
	Drifted int `json:"drifted"` // of these, those that differ, are missing here, or are unknown to Stripe
	Fixed   int `json:"fixed"`   // of these, those that now are as Stripe has them
	// Position is where it broke off: the last subscription of Stripe's list that is done with, and all
	// before it. Empty if it came to its end, or broke off at once.
	Position string `json:"-"`
}

// verification is one run of Verify.
type verification struct {
	config   VerifyConfig
	pool     *pgxpool.Pool
	queries  *db.Queries
	api      *stripeapi.Client
	livemode *bool // nil: the key does not tell its mode
	sum      Verified
	broken   bool // an account could not be gone through: Position stays before it
}

// Verify compares every subscription in the table with Stripe's object, both ways, account by account. A
// difference counts if reading both sides again confirms it. It holds one page of Stripe's list at a time,
// however many subscriptions there are.
func Verify(ctx context.Context, pool *pgxpool.Pool, config *VerifyConfig) (Verified, error) {
	v := &verification{config: *config, pool: pool, queries: db.New()}
	switch {
	case config.APIKey == "":
		return v.sum, errors.New("subscriptions.VerifyConfig.APIKey is empty")
	case config.Fix != nil && config.Projection == nil:
		return v.sum, errors.New("subscriptions.VerifyConfig.Projection is nil: give it what Register returned")
	}
	if v.config.Logger == nil {
		v.config.Logger = slog.Default()
	}
	if v.config.APITimeout == 0 {
		v.config.APITimeout = DefaultVerifyTimeout
	}
	v.api = stripeapi.New(stripeapi.Config{
		Key: config.APIKey, Base: config.APIBase, Timeout: v.config.APITimeout, Attempts: DefaultVerifyAttempts, Logger: v.config.Logger,
	})
	if livemode, known := stripeapi.Mode(config.APIKey); known {
		v.livemode = &livemode
		probe := &webhooks.Event{Type: "customer.subscription.updated", Livemode: livemode}
		if config.Fix != nil && !config.Fix.Handles(probe) {
			return v.sum, errors.New("the key is of the mode whose events the receiver ignores (STRIPE_MODE): nothing is stored")
		}
	}
	err := v.accounts(ctx)
	return v.sum, err
}

// accounts goes through the accounts in order. One that Stripe refuses does not keep from the others.
func (v *verification) accounts(ctx context.Context) error {
	stored, err := v.queries.SubscriptionAccountList(ctx, v.pool)
	if err != nil {
		return fmt.Errorf("list the accounts: %w", err)
	}
	from, after := "", v.config.After
	if account, id, ok := strings.Cut(after, "/"); ok {
		from, after = account, id
	}
	var failed []error
	for _, account := range inOrder("", stored, v.config.Accounts) {
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
		case err != nil && account != "":
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

// reading is one subscription as both sides have it at about the same time.
type reading struct {
	id         string
	local      *storedRow    // nil: it is not there
	stripe     *Subscription // nil: it is not there
	asOf       time.Time     // of Stripe's answer
	apiVersion string
}

func (r *reading) differences() []Difference {
	if r.local == nil {
		return differences(r.id, nil, r.stripe)
	}
	return differences(r.id, r.local.Subscription, r.stripe)
}

// same is true if neither side has changed from one reading to the other.
func (r *reading) same(other *reading) bool {
	if revisionOf(r.local) != revisionOf(other.local) || (r.stripe == nil) != (other.stripe == nil) {
		return false
	}
	return r.stripe == nil || sameState(r.stripe, other.stripe)
}

// get asks Stripe for one subscription.
func (v *verification) get(ctx context.Context, id, account string) (*reading, error) {
	r := &reading{id: id}
	answer, err := v.api.Do(ctx, stripeapi.Request{Path: "/v1/subscriptions/" + url.PathEscape(id), Account: account, Version: verifyVersion})
	switch {
	case stripeapi.IsMissing(err):
		return r, nil
	case err != nil:
		return nil, fmt.Errorf("get subscription %s: %w", id, err)
	}
	if err := r.read(answer.Body, answer.Date, answer.Version, account); err != nil {
		return nil, fmt.Errorf("subscription %s: %w", id, err)
	}
	return r, nil
}

func (r *reading) read(body []byte, asOf time.Time, apiVersion, account string) error {
	object, err := storable.JSON(body)
	if err != nil {
		return fmt.Errorf("Stripe's subscription: %w", err) //nolint:staticcheck // a name
	}
	if r.stripe, err = readAnswer(object, apiVersion, account); err != nil {
		return err
	}
	r.id, r.asOf, r.apiVersion = r.stripe.ID, asOf, apiVersion
	return nil
}

// locals fills in the rows of several readings with one statement.
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

// list is the request for the account's subscriptions, those that have ended included.
func list(account string) stripeapi.Request {
	return stripeapi.Request{Path: "/v1/subscriptions", Account: account, Version: verifyVersion, Values: url.Values{
		"status": {"all"}, "limit": {strconv.Itoa(stripeapi.PageSize)},
	}}
}
