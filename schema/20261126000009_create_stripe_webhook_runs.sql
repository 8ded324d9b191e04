-- migrate:up

-- One row for each run of an operator's command that had something to do: a reconcile, verify, backfill, replay, reprocess, dismiss,
-- retry, prune or erase that found nothing leaves none. finished_at is null while it runs, and after it was interrupted: position then says where
-- a backfill or a reprocess resumes. operator is the user who started it, reason what that person said, and host the
-- machine. counts are those of the command's output. share is how much of it is done, up to 1; null: not known. updated_at is the time
-- of the last progress. Ids sort by the time of the start.
CREATE TABLE stripe_webhook_runs (
    id VARCHAR(64) COLLATE "C" NOT NULL,
    kind VARCHAR(16) NOT NULL,
    arguments JSONB NOT NULL,
    operator VARCHAR,
    reason VARCHAR,
    host VARCHAR,
    started_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    finished_at TIMESTAMPTZ,
    counts JSONB NOT NULL,
    share DOUBLE PRECISION,
    position JSONB,
    error VARCHAR,
    CONSTRAINT stripe_webhook_runs_pkey PRIMARY KEY (id),
    CONSTRAINT stripe_webhook_runs_kind_check CHECK (kind::TEXT IN ('reconcile', 'verify', 'backfill', 'replay', 'reprocess', 'dismiss', 'retry', 'prune', 'erase'))
);

-- For finding the run that a command resumes (StripeWebhookRunUnfinished). It has few entries.
CREATE INDEX stripe_webhook_runs_unfinished_idx ON stripe_webhook_runs (kind, id) WHERE finished_at IS NULL;

-- Supabase grants these roles, which its public REST API uses, all privileges on new tables of the schema public. See
-- https://supabase.com/docs/guides/api/securing-your-api.
DO $$
DECLARE
    role_name NAME;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON stripe_webhook_runs FROM %I', role_name);
    END LOOP;
END
$$;

-- migrate:down

DROP TABLE stripe_webhook_runs;
