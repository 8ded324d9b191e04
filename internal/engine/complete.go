package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// completePage is the number of rows that Complete reads at a time.
	completePage = 100
	// firstCompletion is the pause after the first attempt that did not complete a row. It doubles up to lastCompletion.
	firstCompletion = time.Minute
	lastCompletion  = 24 * time.Hour
)

// postponed is a row that could not be completed: Stripe does not have it, or refuses the rest of its lists.
type postponed struct {
	until time.Time
	pause time.Duration
}

// postpone has a row wait for its next attempt.
func (v *verification[T]) postpone(key Key) {
	v.postponed[key] = v.postponed[key].next(time.Now())
}

func (p postponed) next(now time.Time) postponed {
	pause := min(max(2*p.pause, firstCompletion), lastCompletion)
	return postponed{now.Add(pause), pause}
}

// Complete fetches the objects of whose lists only a part is stored, and stores them whole, as Verify with Fix does; OnChange is
// called. It takes three requests for a row, at most VerifyConfig.Rate a second, and without such rows nothing but a look into
// an index. It returns the number of rows that it completed, also with an error. VerifyConfig.Fix is required; Gone, Accounts,
// From, Each and Progress are not used.
func (e *Engine[T]) Complete(ctx context.Context, pool *pgxpool.Pool, config *VerifyConfig) (completed int, err error) {
	v, err := e.verification(pool, config)
	if err != nil {
		return 0, err
	}
	return v.completeAll(ctx)
}

func (v *verification[T]) completeAll(ctx context.Context) (completed int, err error) {
	var failed []error
	var after Key
	for more := true; more; {
		keys, err := v.store.IncompleteKeys(ctx, v.pool, v.livemode, after, completePage)
		if err != nil {
			return completed, fmt.Errorf("list the %ss without whole lists: %w", v.rules.noun(), err)
		}
		for _, key := range keys {
			after = key
			if time.Now().Before(v.postponed[key].until) {
				continue
			}
			done, err := v.completeOne(ctx, key)
			switch {
			case ctx.Err() != nil:
				return completed, ctx.Err()
			case err != nil:
				failed = append(failed, fmt.Errorf("%s: %w", key.ID, err))
			}
			if !done {
				v.postpone(key)
				continue
			}
			delete(v.postponed, key)
			completed++
		}
		more = len(keys) == completePage
	}
	return completed, errors.Join(failed...)
}

// completeOne completes an object's lists. A row without an account is the key's own.
func (v *verification[T]) completeOne(ctx context.Context, key Key) (done bool, err error) {
	account := key.Account
	if account == "" {
		account = v.config.AccountID
	}
	from, err := v.sourceOf(ctx, account)
	if err != nil {
		return false, err
	}
	w := &walk[T]{verification: v, source: from}
	r, err := w.get(ctx, v.store.Key(account, key.Livemode, key.ID), from)
	if err != nil || r.stripe == nil || !r.head.Complete {
		return false, err
	}
	if err := w.locals(ctx, []*reading[T]{r}); err != nil {
		return false, err
	}
	return w.fix(ctx, r)
}

// CompleteEvery calls completions at once and then at each interval, until ctx ends.
func CompleteEvery(ctx context.Context, every time.Duration, completions ...func(ctx context.Context)) {
	for {
		for _, complete := range completions {
			complete(ctx)
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return
		}
	}
}

// Completion returns a function that calls Complete unless another process does, and logs its errors. Only one process per
// database does so at a time; it holds a connection of the pool while there is something to complete. A row that cannot be
// completed is tried again after a minute, then after two, and so on up to a day.
func (e *Engine[T]) Completion(pool *pgxpool.Pool, config *VerifyConfig) (func(ctx context.Context), error) {
	v, err := e.verification(pool, config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		if err := v.completeAlone(ctx); err != nil && ctx.Err() == nil {
			v.config.Logger.ErrorContext(ctx, "could not complete the lists of all objects", "object_type", v.rules.Object, "error", err)
		}
	}, nil
}

// completeAlone completes rows unless another process does.
func (v *verification[T]) completeAlone(ctx context.Context) error {
	keys, err := v.store.IncompleteKeys(ctx, v.pool, v.livemode, Key{}, 1)
	if err != nil || len(keys) == 0 {
		return err
	}
	tx, err := v.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it holds nothing but the lock
	if mine, err := v.store.LockCompletion(ctx, tx); err != nil || !mine {
		return err
	}
	completed, err := v.completeAll(ctx)
	if completed > 0 {
		v.config.Logger.InfoContext(ctx, "completed the lists of objects", "object_type", v.rules.Object, "objects", completed)
	}
	return err
}
