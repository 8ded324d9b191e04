package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
)

const (
	// completePage is the number of rows that CompleteItems reads at a time.
	completePage = 100
	// firstCompletion is the pause after the first attempt that did not complete a row. It doubles up to lastCompletion.
	firstCompletion = time.Minute
	lastCompletion  = 24 * time.Hour
)

// postponed is a row that could not be completed: Stripe does not have it, or refuses the rest of its items.
type postponed struct {
	until time.Time
	pause time.Duration
}

// postpone has a row wait for its next attempt.
func (v *verification) postpone(id string) {
	pause := min(max(2*v.postponed[id].pause, firstCompletion), lastCompletion)
	v.postponed[id] = postponed{time.Now().Add(pause), pause}
}

// CompleteItems fetches the subscriptions of which only a part of the items is stored (items_complete is false), and stores
// them whole, as Verify with Fix does; OnChange is called. It is for the background: where an event has only a part of the
// items and the rest cannot be fetched at once, the row waits for this. It takes three requests for a row, at most
// VerifyConfig.Rate a second, and without such rows nothing but a look into an index. It returns the number of rows that it
// completed, also with an error. VerifyConfig.Fix is required; Gone, Accounts, After, Each and Progress are not used.
func CompleteItems(ctx context.Context, pool *pgxpool.Pool, config *VerifyConfig) (completed int, err error) {
	if config.Fix == nil {
		return 0, errors.New("subscriptions.VerifyConfig.Fix is nil: CompleteItems requires it")
	}
	v, err := newVerification(pool, config)
	if err != nil {
		return 0, err
	}
	return v.completeAll(ctx)
}

func (v *verification) completeAll(ctx context.Context) (completed int, err error) {
	var failed []error
	params := db.SubscriptionIncompleteListParams{Livemode: v.livemode, MaxRows: completePage}
	for more := true; more; {
		rows, err := v.queries.SubscriptionIncompleteList(ctx, v.pool, params)
		if err != nil {
			return completed, fmt.Errorf("list the subscriptions without all items: %w", err)
		}
		for _, row := range rows {
			params.AfterID = row.ID
			if time.Now().Before(v.postponed[row.ID].until) {
				continue
			}
			done, err := v.completeOne(ctx, row.ID, row.AccountID)
			switch {
			case ctx.Err() != nil:
				return completed, ctx.Err()
			case err != nil:
				failed = append(failed, fmt.Errorf("%s: %w", row.ID, err))
			}
			if !done {
				v.postpone(row.ID)
				continue
			}
			delete(v.postponed, row.ID)
			completed++
		}
		more = len(rows) == completePage
	}
	return completed, errors.Join(failed...)
}

// completeOne completes a subscription's items. A row without an account is the key's own.
func (v *verification) completeOne(ctx context.Context, id, account string) (done bool, err error) {
	if account == "" {
		account = v.config.AccountID
	}
	w := &walk{verification: v, account: account}
	r, err := w.get(ctx, id, account)
	if err != nil || r.stripe == nil || !r.stripe.ItemsComplete {
		return false, err
	}
	if err := w.locals(ctx, []*reading{r}); err != nil {
		return false, err
	}
	return w.fix(ctx, r)
}

// CompleteItemsEvery calls CompleteItems at once and then at each interval, until ctx ends. Only one process per database does
// so at a time; it holds a connection of the pool while there is something to complete. Errors are logged. A row that cannot
// be completed is tried again after a minute, then after two, and so on up to a day.
func CompleteItemsEvery(ctx context.Context, pool *pgxpool.Pool, every time.Duration, config *VerifyConfig) error {
	v, err := newVerification(pool, config)
	if err != nil {
		return err
	}
	for {
		if err := v.completeAlone(ctx); err != nil && ctx.Err() == nil {
			v.config.Logger.ErrorContext(ctx, "could not complete the items of all subscriptions", "error", err)
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil
		}
	}
}

// completeAlone completes items unless another process does.
func (v *verification) completeAlone(ctx context.Context) error {
	rows, err := v.queries.SubscriptionIncompleteList(ctx, v.pool, db.SubscriptionIncompleteListParams{Livemode: v.livemode, MaxRows: 1})
	if err != nil || len(rows) == 0 {
		return err
	}
	tx, err := v.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it holds nothing but the lock
	if mine, err := v.queries.CompleteLockTry(ctx, tx); err != nil || !mine {
		return err
	}
	completed, err := v.completeAll(ctx)
	if completed > 0 {
		v.config.Logger.InfoContext(ctx, "completed the items of subscriptions", "subscriptions", completed)
	}
	return err
}
