-- name: ConsoleAccountList :many
-- ObjectAccountList up to max_rows accounts. PostgreSQL walks no further than the limit.
WITH RECURSIVE account AS (
    (SELECT account_id AS id FROM stripe_objects ORDER BY account_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.account_id FROM stripe_objects AS o WHERE o.account_id > account.id ORDER BY o.account_id LIMIT 1)
    FROM account WHERE account.id IS NOT NULL
)

SELECT id::text AS id FROM account WHERE id IS NOT NULL LIMIT @max_rows;

-- name: ConsoleTypeList :many
-- The modes and types of an account's objects, each with the number of its rows up to max_counted. One lookup in the primary
-- key for each, whatever the number of rows. The order keeps PostgreSQL from reading the table for so many rows of a type that
-- may have few.
WITH RECURSIVE kind AS (
    (
        SELECT o.livemode, o.object_type FROM stripe_objects AS o
        WHERE o.account_id = @account_id ORDER BY o.livemode, o.object_type LIMIT 1
    )
    UNION ALL
    SELECT following.livemode, following.object_type
    FROM kind CROSS JOIN LATERAL (
        SELECT o.livemode, o.object_type FROM stripe_objects AS o
        WHERE o.account_id = @account_id AND (o.livemode, o.object_type) > (kind.livemode, kind.object_type)
        ORDER BY o.livemode, o.object_type LIMIT 1
    ) AS following
)

SELECT
    kind.livemode, kind.object_type,
    (
        SELECT count(*) FROM (
            SELECT FROM stripe_objects AS o
            WHERE o.account_id = @account_id AND o.livemode = kind.livemode AND o.object_type = kind.object_type
            ORDER BY o.id LIMIT @max_counted
        ) AS counted
    ) AS objects
FROM kind;

-- name: ConsoleObjectFind :many
-- The keys of the objects of an id, of any type and mode, in the accounts from from_account on: one lookup for each account, mode
-- and type, in at most max_kinds of them.
WITH RECURSIVE kind AS (
    (
        SELECT o.account_id, o.livemode, o.object_type FROM stripe_objects AS o
        WHERE o.account_id >= @from_account::text ORDER BY o.account_id, o.livemode, o.object_type LIMIT 1
    )
    UNION ALL
    SELECT following.account_id, following.livemode, following.object_type
    FROM kind CROSS JOIN LATERAL (
        SELECT o.account_id, o.livemode, o.object_type FROM stripe_objects AS o
        WHERE (o.account_id, o.livemode, o.object_type) > (kind.account_id, kind.livemode, kind.object_type)
        ORDER BY o.account_id, o.livemode, o.object_type LIMIT 1
    ) AS following
)

SELECT object.account_id, object.livemode, object.object_type, object.id
FROM (SELECT kind.* FROM kind LIMIT @max_kinds) AS wanted
CROSS JOIN LATERAL (
    SELECT o.account_id, o.livemode, o.object_type, o.id FROM stripe_objects AS o
    WHERE o.account_id = wanted.account_id AND o.livemode = wanted.livemode AND o.object_type = wanted.object_type AND o.id = @id::text
    LIMIT 1
) AS object
LIMIT @max_rows;

-- name: ConsoleObjectList :many
-- Objects of one account, mode and type, the newest first, by the index stripe_objects_stripe_created_at_idx, whose
-- condition PostgreSQL does not derive from the comparison of rows. The filters look at max_looked_at rows at most: a status has no
-- index. before and before_id continue a listing.
SELECT object.*
FROM (
    SELECT o.* FROM stripe_objects AS o
    WHERE o.account_id = @account_id AND o.livemode = @livemode AND o.object_type = @object_type AND o.stripe_created_at IS NOT NULL
        AND (o.stripe_created_at, o.id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_id::text)
    ORDER BY o.stripe_created_at DESC, o.id DESC
    LIMIT @max_looked_at::int
) AS object
WHERE (sqlc.narg('status')::text IS NULL OR object.status = sqlc.narg('status')::text) AND object.deleted = @deleted::boolean
ORDER BY object.stripe_created_at DESC, object.id DESC
LIMIT @max_rows;

-- name: ConsoleObjectListEnd :one
-- The last row that ConsoleObjectList looked at; no row if it looked at all of them.
SELECT o.stripe_created_at, o.id FROM stripe_objects AS o
WHERE o.account_id = @account_id AND o.livemode = @livemode AND o.object_type = @object_type AND o.stripe_created_at IS NOT NULL
    AND (o.stripe_created_at, o.id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_id::text)
ORDER BY o.stripe_created_at DESC, o.id DESC
LIMIT 1 OFFSET @skipped;

-- name: ConsoleCustomerKeyList :many
-- The accounts and modes in which a customer is known: by its own rows, and by one object and one subscription of its.
SELECT DISTINCT ON (known.account_id, known.livemode) known.account_id, known.livemode
FROM (
    (
        SELECT o.account_id, o.livemode FROM stripe_objects AS o
        WHERE o.customer_id = @customer_id::text AND o.object_type = 'customer' ORDER BY o.stripe_created_at, o.id LIMIT 20
    )
    UNION ALL
    (SELECT o.account_id, o.livemode FROM stripe_objects AS o WHERE o.customer_id = @customer_id::text ORDER BY o.object_type LIMIT 1)
    UNION ALL
    (SELECT COALESCE(s.account_id, ''), s.livemode FROM subscriptions AS s WHERE s.customer_id = @customer_id::text LIMIT 1)
) AS known
ORDER BY known.account_id, known.livemode DESC;

-- name: ConsoleCustomerObjectList :many
-- A customer's objects of each type, the newest max_each of each first, by the index stripe_objects_customer_id_idx.
WITH RECURSIVE kind AS (
    (SELECT o.object_type FROM stripe_objects AS o WHERE o.customer_id = @customer_id::text ORDER BY o.object_type LIMIT 1)
    UNION ALL
    SELECT following.object_type
    FROM kind CROSS JOIN LATERAL (
        SELECT o.object_type FROM stripe_objects AS o
        WHERE o.customer_id = @customer_id::text AND o.object_type > kind.object_type
        ORDER BY o.object_type LIMIT 1
    ) AS following
)

SELECT object.*
FROM kind CROSS JOIN LATERAL (
    SELECT o.* FROM stripe_objects AS o
    WHERE o.customer_id = @customer_id::text AND o.object_type = kind.object_type AND o.account_id = @account_id AND o.livemode = @livemode
    ORDER BY o.stripe_created_at DESC, o.id DESC
    LIMIT @max_each
) AS object
ORDER BY object.object_type, object.stripe_created_at DESC, object.id DESC;

-- name: ConsolePaymentObjectList :many
-- The refunds and disputes of charges and payment intents, the newest first. They do not name their customer, so the newest
-- max_looked_at of each type are looked at.
SELECT object.*
FROM (SELECT unnest(ARRAY['dispute', 'refund']) AS object_type) AS kind
CROSS JOIN LATERAL (
    SELECT newest.* FROM (
        SELECT o.* FROM stripe_objects AS o
        WHERE o.account_id = @account_id AND o.livemode = @livemode AND o.object_type = kind.object_type AND o.stripe_created_at >= @created_from
        ORDER BY o.stripe_created_at DESC, o.id DESC
        LIMIT @max_looked_at::int
    ) AS newest
    WHERE newest.object ->> 'charge' = ANY(@payments::text []) OR newest.object ->> 'payment_intent' = ANY(@payments::text [])
    LIMIT @max_each::int
) AS object
ORDER BY object.object_type, object.stripe_created_at DESC, object.id DESC;

-- name: ConsoleChangedList :many
-- The objects that the events of a time changed, by the kind of object that begins the event's type ("invoice" of invoice.paid):
-- those with the most events first, max_each of each kind, with the events and objects of the kind. It looks at the newest
-- max_looked_at rows of the ledger, by their index on processed_at.
WITH object AS (
    SELECT
        regexp_replace(newest.event_type, '\.[^.]*$', '') AS kind, COALESCE(newest.object_id, '') AS object_id,
        COALESCE(newest.account_id, '') AS account_id, newest.livemode, count(*) AS events, max(newest.processed_at) AS last_at
    FROM (
        SELECT e.event_type, e.object_id, e.account_id, e.livemode, e.outcome, e.processed_at FROM stripe_webhook_events AS e
        WHERE e.processed_at > @since ORDER BY e.processed_at DESC LIMIT @max_looked_at
    ) AS newest
    WHERE newest.outcome = 'processed'
    GROUP BY 1, 2, 3, 4
)

SELECT
    ranked.kind::text AS kind, ranked.object_id::text AS object_id, ranked.account_id::text AS account_id, ranked.livemode, ranked.events,
    ranked.last_at::timestamptz AS last_at, ranked.kind_events::bigint AS kind_events, ranked.kind_objects
FROM (
    SELECT
        object.*,
        sum(object.events) OVER (PARTITION BY object.kind) AS kind_events,
        count(*) OVER (PARTITION BY object.kind) AS kind_objects,
        row_number() OVER (PARTITION BY object.kind ORDER BY object.events DESC, object.last_at DESC, object.object_id) AS place
    FROM object
) AS ranked
WHERE ranked.place <= @max_each::int
ORDER BY ranked.kind_events DESC, ranked.kind, ranked.place;

-- name: ConsoleNewestFailure :one
-- The newest first failure of an event, by its index.
SELECT f.first_failed_at FROM stripe_webhook_failures AS f ORDER BY f.first_failed_at DESC, f.event_id DESC LIMIT 1;

-- name: ConsoleRunProblemList :many
-- The runs from an id on that found missing events, or objects that differed from Stripe, and the failures of the retrier and of
-- repeated reconciliation after which no run has completed, the newest first. It reads at most max_looked_at runs, by the primary key.
SELECT run.id, run.kind, run.started_at, run.finished_at, run.counts, run.error
FROM (
    SELECT r.id, r.kind, r.started_at, r.finished_at, r.counts, r.error FROM stripe_webhook_runs AS r
    WHERE r.id >= @since_id::varchar ORDER BY r.id DESC LIMIT @max_looked_at
) AS run
WHERE run.kind = 'verify' AND run.counts ->> 'drifted' > '0'
    OR run.kind IN ('reconcile', 'retry')
    AND (run.counts ->> 'missing' > '0' OR run.counts ->> 'recovered' = 'false')
ORDER BY run.id DESC
LIMIT @max_rows;
