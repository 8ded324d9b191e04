-- Publishes the tables for logical replication to a second server, such as one for analytics. The first server needs wal_level = logical.
--
--   psql "$DATABASE_URL" -f deploy/publication.sql                     on the first server, as the tables' owner
--   DATABASE_URL="$ANALYTICS_URL" stripeonce migrate                    on the second one: tables and views, of the same version or a newer one
--   psql "$ANALYTICS_URL" -c "CREATE SUBSCRIPTION stripeonce CONNECTION '…' PUBLICATION stripeonce"
--
-- Leave a table out that the second server need not have. stripe_webhook_payloads holds whole events, and is not published.
CREATE PUBLICATION stripeonce FOR TABLE
    stripe_webhook_events, stripe_webhook_failures, stripe_webhook_runs, subscriptions, subscription_items, stripe_objects, stripe_erasures
WITH (publish_via_partition_root = true);
