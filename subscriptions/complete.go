package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
)

// completePage is the number of rows that CompleteItems reads at a time.
const completePage = 100

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
			switch done, err := v.completeOne(ctx, row.ID, row.AccountID); {
			case ctx.Err() != nil:
				return completed, ctx.Err()
			case err != nil:
				failed = append(failed, fmt.Errorf("%s: %w", row.ID, err))
			case done:
				completed++
			}
		}
		more = len(rows) == completePage
	}
	return completed, errors.Join(failed...)
}

// completeOne completes a subscription's items. One of an account that the key does not belong to is left alone.
func (v *verification) completeOne(ctx context.Context, id, account string) (done bool, err error) {
	own := v.config.AccountID
	if own != "" && account != "" && account != own {
		return false, nil
	}
	if account == "" {
		account = own
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
// so at a time; it holds a connection of the pool while there is something to complete. Errors are logged.
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
	completed, err := CompleteItems(ctx, v.pool, &v.config)
	if completed > 0 {
		v.config.Logger.InfoContext(ctx, "completed the items of subscriptions", "subscriptions", completed)
	}
	return err
}
