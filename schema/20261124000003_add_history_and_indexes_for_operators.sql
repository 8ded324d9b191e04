-- migrate:up

-- For the listing of the ledger by time (StripeWebhookEventList) and for pruning (StripeWebhookEventPrune).
CREATE INDEX stripe_webhook_events_processed_at_idx ON stripe_webhook_events (processed_at);

-- For the listing of one object's events (StripeWebhookEventListByObject).
CREATE INDEX stripe_webhook_events_object_id_idx ON stripe_webhook_events (object_id) WHERE object_id IS NOT NULL;

-- For the listing of what still fails (StripeWebhookFailureList).
CREATE INDEX stripe_webhook_failures_first_failed_at_idx ON stripe_webhook_failures (first_failed_at, event_id);

-- The failed attempts, the newest last: when each was, and the beginning of its error.
ALTER TABLE stripe_webhook_failures ADD COLUMN history JSONB NOT NULL DEFAULT '[]';

-- For comparing the table with Stripe's list (SubscriptionKeyList), which is sorted by creation, account by
-- account. Neither column ever changes, so it does not stand in the way of HOT updates.
CREATE INDEX subscriptions_stripe_created_at_idx ON subscriptions ((COALESCE(account_id, '')), stripe_created_at, id);

-- migrate:down

DROP INDEX subscriptions_stripe_created_at_idx;
ALTER TABLE stripe_webhook_failures DROP COLUMN history;
DROP INDEX stripe_webhook_failures_first_failed_at_idx;
DROP INDEX stripe_webhook_events_object_id_idx;
DROP INDEX stripe_webhook_events_processed_at_idx;
