package engine

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
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/storable"
	"github.com/pook/stripeonce/internal/stripeapi"
	"github.com/pook/stripeonce/webhooks"
)

// The defaults of VerifyConfig.
const (
	DefaultVerifyTimeout  = stripeapi.BackgroundTimeout
	DefaultVerifyAttempts = stripeapi.BackgroundAttempts
	DefaultVerifyRate     = 20
	// The defaults of VerifyConfig.Rate with Import: four fifths of what Stripe permits, 100 reads a second in live mode and 25 in a
	// sandbox, so that the application's own requests are not refused. https://docs.stripe.com/rate-limits
	DefaultImportRateLive    = 80
	DefaultImportRateSandbox = 20
)

// VerifyConfig configures Verify.
type VerifyConfig struct {
	APIKey  string
	APIBase string // empty: Stripe's
	// APITimeout bounds one attempt of a request. Defaults to DefaultVerifyTimeout.
	APITimeout time.Duration
	// Fix stores Stripe's object if a row differs from it or is missing, in transactions of this receiver. Optional.
	Fix *webhooks.Receiver
	// NoHooks turns off OnChange.
	NoHooks bool
	// Gone marks rows as ended whose object Stripe does not have any more. Requires Fix. It is refused (Rules.Refused) if more than
	// 1 % of the rows would be marked, unless Force is set.
	Gone, Force bool
	// AccountID and Accounts are the accounts to compare. An empty AccountID means all accounts that have rows.
	AccountID string
	Accounts  []string
	// Account is the one account to compare. Nil: those above.
	Account *string
	// Rate bounds the requests to Stripe, per second. Defaults to DefaultVerifyRate; with Import to DefaultImportRateLive or
	// DefaultImportRateSandbox, by the key's mode.
	Rate int
	// From resumes an interrupted run: that run's Verified.Position.
	From Position
	// Only compares the object of this id alone, and Customer a customer's objects alone.
	Only, Customer string
	// Since compares only objects that Stripe created at this time or later. Zero: all.
	Since time.Time
	// Import stores what Stripe's list says without reading it again, where the row is missing or surely older. Requires Fix.
	Import bool
	Each   func(Difference) // optional
	// Progress is called after each page of Stripe's list, after each account with Only or Customer, and its error ends the run. Optional.
	Progress func(context.Context, Verified) error
	Logger   *slog.Logger // defaults to slog.Default()
}

// Verified is the result of Verify.
type Verified struct {
	Checked int // objects of Stripe's list and of the table
	Drifted int // checked objects that differ, are missing here, or are unknown to Stripe
	Fixed   int // drifted objects that now match Stripe's
	Unknown int // drifted objects that Stripe does not have
	// Position is the last object of Stripe's list that an interrupted run has completed. It is zero if the run completed, or
	// was interrupted before the first page.
	Position Position
	// Completed reports that every account was compared to its end, even if some of its objects could not be read.
	Completed bool
}

// verification is one run of Verify.
type verification[T any] struct {
	*Engine[T]
	config    VerifyConfig
	pool      *pgxpool.Pool
	api       *stripeapi.Client
	livemode  *bool // nil: the key does not show its mode
	sum       Verified
	postponed map[Key]postponed // of CompleteEvery
	gone      []*reading[T]     // rows whose object Stripe does not have any more
	broken    bool              // an account failed: Position stays before it
	stopped   error             // of Progress
	left      map[string]bool   // the ids of objects and customers that were left out, since the customer's data was erased
}

// Verify compares the rows with Stripe's objects in both directions, account by account. A difference counts only if reading
// both sides again confirms it. Verify holds one page of Stripe's list in memory at a time.
func (e *Engine[T]) Verify(ctx context.Context, pool *pgxpool.Pool, config *VerifyConfig) (Verified, error) {
	v, err := e.verification(pool, config)
	if err != nil {
		return Verified{}, err
	}
	err = v.accounts(ctx)
	if err == nil {
		err = cmp.Or(v.checkFound(), v.resolveGone(ctx))
	}
	return v.sum, err
}

func (e *Engine[T]) verification(pool *pgxpool.Pool, config *VerifyConfig) (*verification[T], error) {
	v := &verification[T]{Engine: e, config: *config, pool: pool, postponed: map[Key]postponed{}, left: map[string]bool{}}
	switch {
	case config.APIKey == "":
		return nil, errors.New("VerifyConfig.APIKey is empty")
	case (config.Gone || config.Import) && config.Fix == nil:
		return nil, errors.New("VerifyConfig.Fix is nil: Gone and Import require it")
	}
	if v.config.Logger == nil {
		v.config.Logger = slog.Default()
	}
	if v.config.APITimeout == 0 {
		v.config.APITimeout = DefaultVerifyTimeout
	}
	v.api = stripeapi.New(stripeapi.Config{
		Key: config.APIKey, Base: config.APIBase, Timeout: v.config.APITimeout, Attempts: DefaultVerifyAttempts,
		Own: v.config.AccountID, Rate: config.rate(), Logger: v.config.Logger,
	})
	if livemode, known := stripeapi.Mode(config.APIKey); known {
		v.livemode = &livemode
		if config.Fix != nil && !config.Fix.AcceptsMode(livemode) {
			return nil, errors.New("the API key belongs to the mode that the receiver ignores: set STRIPE_MODE to the key's mode, or use a key of the other mode")
		}
	}
	return v, nil
}

// rate returns Rate or its default. A key that does not show its mode counts as a sandbox's.
func (c *VerifyConfig) rate() int {
	livemode, _ := stripeapi.Mode(c.APIKey)
	switch {
	case c.Rate != 0:
		return c.Rate
	case !c.Import:
		return DefaultVerifyRate
	case livemode:
		return DefaultImportRateLive
	}
	return DefaultImportRateSandbox
}

// source is where objects are read: an account and an API version (empty: the account's).
type source struct{ account, version string }

// sourceOf returns the source of an account's objects.
func (v *verification[T]) sourceOf(ctx context.Context, account string) (source, error) {
	version, err := v.store.Version(ctx, v.pool, account, v.livemode)
	if err != nil {
		return source{}, fmt.Errorf("read the API version of the rows: %w", err)
	}
	return source{account, version}, nil
}

// of returns the source of the object of a row: in the row's version, if states differ by version.
func (s source) of(rowVersion string, byVersion bool) source {
	if byVersion && rowVersion != "" {
		s.version = rowVersion
	}
	return s
}

// request returns a request to Stripe on behalf of an account. The key's own is not named.
func (s source) request(path string, values url.Values) stripeapi.Request {
	return stripeapi.Request{Path: path, Values: values, Account: s.account, Version: s.version}
}

// accountList returns the accounts to compare, in order.
func (v *verification[T]) accountList(ctx context.Context) ([]string, error) {
	if v.config.Account != nil {
		return []string{*v.config.Account}, nil
	}
	var stored []string
	if v.config.AccountID == "" {
		var err error
		if stored, err = v.store.Accounts(ctx, v.pool); err != nil {
			return nil, fmt.Errorf("list the accounts: %w", err)
		}
	}
	return inOrder(v.config.AccountID, stored, v.config.Accounts), nil
}

// accounts compares each account, in order. It continues after an account that fails.
func (v *verification[T]) accounts(ctx context.Context) error {
	list, err := v.accountList(ctx)
	if err != nil {
		return err
	}
	from := v.config.From
	var failed []error
	for _, account := range list {
		if account < from.Account {
			continue
		}
		w := &walk[T]{verification: v, boundary: map[string]bool{}, unreadable: map[string]error{}}
		if account == from.Account {
			w.from = from
		}
		err := w.run(ctx, account)
		failed = slices.AppendSeq(failed, maps.Values(w.unreadable))
		v.broken = v.broken || err != nil
		switch {
		case ctx.Err() != nil:
			return errors.Join(append(failed, ctx.Err())...)
		case v.stopped != nil:
			return errors.Join(append(failed, v.stopped)...)
		case err != nil && account != v.config.AccountID:
			failed = append(failed, fmt.Errorf("account %s: %w", account, stripeapi.Explain(err)))
		case err != nil:
			failed = append(failed, stripeapi.Explain(err))
		}
	}
	if v.sum.Completed = !v.broken; v.sum.Completed {
		v.sum.Position = Position{}
	}
	return errors.Join(failed...)
}

// reading is one object, read from the table and from Stripe at about the same time.
type reading[T any] struct {
	key        Key
	local      *Row[T]   // nil: not in the table
	stripe     *T        // nil: not at Stripe
	head       Head      // of stripe
	asOf       time.Time // the Date of Stripe's response
	apiVersion string
	listed     []byte // the object as Stripe's list has it; nil: it was read alone
}

// differences returns the fields in which the sides of a reading differ. It is "id" alone if one side does not have the object.
func (v *verification[T]) differences(r *reading[T]) []Difference {
	switch id := r.key.ID; {
	case r.local == nil && r.stripe == nil:
		return nil
	case r.local == nil && v.rules.Collect != nil && r.head.Ended: // nothing is collected, and there is no row
		return nil
	case r.local == nil:
		return []Difference{{ID: id, Field: "id", Stripe: id}}
	case r.stripe == nil && r.local.Ended: // it ended, and was deleted at Stripe
		return nil
	case r.stripe == nil:
		return []Difference{{ID: id, Field: "id", Local: id}}
	default:
		return v.store.Differences(id, r.local.State, r.stripe)
	}
}

// same reports whether neither side changed between two readings.
func (v *verification[T]) same(a, b *reading[T]) bool {
	if RevisionOf(a.local) != RevisionOf(b.local) || (a.stripe == nil) != (b.stripe == nil) {
		return false
	}
	return a.stripe == nil || v.store.Same(a.stripe, b.stripe)
}

// fetch fetches one object from Stripe, with its whole lists.
func (v *verification[T]) fetch(ctx context.Context, key Key, from source) (*stripeapi.Response, error) {
	request := v.requestOf(key, from)
	if v.rules.Collect == nil {
		return v.api.Whole(ctx, request, v.rules.Lists)
	}
	response, err := v.api.List(ctx, request)
	if response == nil {
		return nil, err
	}
	body, unreadable := v.rules.Collect(key.ID, key.Livemode, response.Body)
	if unreadable != nil {
		return nil, unreadable
	}
	response.Body = body
	return response, err
}

// get fetches one object from Stripe, with the whole of its lists.
func (v *verification[T]) get(ctx context.Context, key Key, from source) (*reading[T], error) {
	response, err := v.fetch(ctx, key, from)
	return v.readWhole(ctx, key, from, response, err)
}

// requestOf returns the request for one object.
func (v *verification[T]) requestOf(key Key, from source) stripeapi.Request {
	return from.request(v.rules.location(key.ID), nil)
}

// readWhole reads the response to the request for one object. Of an object that was deleted, Stripe may have a stub: then it does
// not have it.
func (v *verification[T]) readWhole(ctx context.Context, key Key, from source, response *stripeapi.Response, err error) (*reading[T], error) {
	r := &reading[T]{key: key}
	switch {
	case errors.Is(err, stripeapi.ErrTruncated):
		v.config.Logger.WarnContext(ctx, "could not fetch all pages of an object's lists", "object_type", v.rules.Object, "object_id", key.ID, "error", stripeapi.Explain(err))
	case stripeapi.IsMissing(err):
		return r, nil
	case err != nil:
		return nil, fmt.Errorf("get %s %s: %w", v.rules.noun(), key.ID, err)
	}
	if v.store.Stub(response.Body) {
		return r, nil
	}
	if err := v.read(r, response.Body, response.Date, response.Version, from.account); err != nil {
		return nil, fmt.Errorf("%s %s: %w", v.rules.noun(), key.ID, err)
	}
	return r, nil
}

func (v *verification[T]) read(r *reading[T], body []byte, asOf time.Time, apiVersion, account string) error {
	object, err := storable.JSON(body)
	if err != nil {
		return fmt.Errorf("Stripe's %s: %w", v.rules.noun(), err) //nolint:staticcheck // a name
	}
	if r.stripe, err = v.store.Decode(response(object, apiVersion, account, v.livemode != nil && *v.livemode)); err != nil {
		return err
	}
	r.head = v.store.Head(r.stripe)
	r.key, r.asOf, r.apiVersion = v.store.Key(account, r.head.Livemode, r.head.ID), asOf, apiVersion
	return nil
}

// locals reads the rows of several readings with one query.
func (v *verification[T]) locals(ctx context.Context, readings []*reading[T]) error {
	byKey := map[Key]*reading[T]{}
	keys := make([]Key, len(readings))
	for i, r := range readings {
		keys[i], byKey[r.key] = r.key, r
		r.local = nil
	}
	rows, err := v.store.Rows(ctx, v.pool, keys)
	if err != nil {
		return fmt.Errorf("list %ss: %w", v.rules.noun(), err)
	}
	for _, row := range rows {
		if r := byKey[v.store.Key(row.Account, row.Livemode, row.ID)]; r != nil {
			r.local = row
		}
	}
	return nil
}

// list returns the request for the account's objects.
func (v *verification[T]) list(from source) stripeapi.Request {
	values := url.Values{"limit": {strconv.Itoa(stripeapi.PageSize)}}
	maps.Copy(values, v.rules.Listing)
	if !v.config.Since.IsZero() && !v.rules.Unfiltered {
		values.Set("created[gte]", strconv.FormatInt(v.config.Since.Unix(), 10))
	}
	return from.request(v.rules.Path, values)
}
