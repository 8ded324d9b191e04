-- migrate:up

-- What the order of events needs. revision counts the row's writes; as_of is set while the row is
-- Stripe's answer of that time and not an event's object; newest_events are the events of the row's
-- second, from which the last of them is told; api_version is that of object.
ALTER TABLE subscriptions
ADD COLUMN revision BIGINT NOT NULL DEFAULT 1,
ADD COLUMN as_of TIMESTAMPTZ,
ADD COLUMN newest_events JSONB NOT NULL DEFAULT '[]',
ADD COLUMN api_version VARCHAR;

-- migrate:down

ALTER TABLE subscriptions
DROP COLUMN revision,
DROP COLUMN as_of,
DROP COLUMN newest_events,
DROP COLUMN api_version;
