-- name: ErasureLookup :one
-- Which of the hashes are those of erased ids, each with the mode, the hash of the customer and the account, and whether there are
-- erasures at all. Hashes are in hex, which every query exec mode and every bytea_output sends alike.
SELECT
    (EXISTS (SELECT FROM stripe_erasures))::boolean AS any_erased,
    ARRAY(
        SELECT concat_ws(' ', encode(e.id_hash, 'hex'), e.livemode, encode(e.customer_hash, 'hex'), e.account_id) FROM stripe_erasures AS e
        WHERE e.id_hash = ANY(ARRAY(SELECT decode(unnest(@id_hashes::text []), 'hex')))
    )::text [] AS erased;

-- name: ErasureInsert :execrows
-- Notes that ids of a customer are erased, given by their hashes in hex. Those that are noted already stay as they are.
INSERT INTO stripe_erasures (id_hash, account_id, livemode, customer_hash, operator, reason)
SELECT decode(erased.id_hash, 'hex'), erased.account_id, erased.livemode, decode(@customer_hash::text, 'hex'), sqlc.narg('operator')::text, sqlc.narg('reason')::text
FROM (
    SELECT
        unnest(@id_hashes::text []) AS id_hash,
        unnest(@account_ids::text []) AS account_id,
        unnest(@livemodes::boolean []) AS livemode
) AS erased
ON CONFLICT (id_hash, account_id, livemode) DO NOTHING;

-- name: ErasureOlder :one
-- Whether there has been an erasure for so many seconds.
SELECT (EXISTS (
    SELECT FROM stripe_erasures AS e WHERE e.erased_at < clock_timestamp() - make_interval(secs => @seconds::float8)
))::boolean;

-- name: ErasureTransactions :many
-- The transactions of receivers that are in progress in this database: those with a lock of a Stripe object that have looked at the
-- ledger or at the erasures, and those that write failures.
SELECT DISTINCT held.virtualtransaction::text AS id
FROM pg_catalog.pg_locks AS held
WHERE held.locktype = 'relation'
    AND held.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
    AND held.pid IS DISTINCT FROM pg_backend_pid()
    AND (
        held.relation = to_regclass('stripe_webhook_failures') AND held.mode = 'RowExclusiveLock'
        OR held.relation IN (to_regclass('stripe_webhook_events'), to_regclass('stripe_erasures'))
        AND EXISTS (
            SELECT FROM pg_catalog.pg_locks AS object
            WHERE object.locktype = 'advisory' AND object.virtualtransaction = held.virtualtransaction
        )
    );

-- name: ErasureSubscriptionList :many
-- A customer's subscriptions in some accounts.
SELECT id, COALESCE(account_id, '')::text AS account_id, livemode, COALESCE(default_payment_method_id, '')::text AS default_payment_method_id
FROM subscriptions
WHERE customer_id = @customer_id::text AND COALESCE(account_id, '') = ANY(@account_ids::text []);

-- name: ErasureObjectList :many
-- A customer's objects in some accounts, by the index stripe_objects_customer_id_idx, each with the payment methods and mandates that
-- it names: these no longer name the customer once they are detached.
SELECT
    o.account_id, o.livemode, o.object_type, o.id,
    array_remove(ARRAY[
        o.object ->> 'payment_method', o.object ->> 'default_payment_method', o.object ->> 'mandate',
        o.object #>> '{invoice_settings,default_payment_method}', o.object #>> '{payment_method_details,card,mandate}',
        o.object #>> '{payment_method_details,sepa_debit,mandate}', o.object #>> '{payment_method_details,bacs_debit,mandate}',
        o.object #>> '{payment_method_details,acss_debit,mandate}', o.object #>> '{payment_method_details,us_bank_account,mandate}'
    ], NULL)::text [] AS names
FROM stripe_objects AS o
WHERE o.customer_id = @customer_id::text AND o.account_id = ANY(@account_ids::text []);

-- name: ErasureLinkedList :many
-- The next max_looked_at objects of a type that name no customer, and whether each is of a customer's payments: its id or that of an
-- object that it names is among ids or noted as the customer's, or its text has the customer's id.
SELECT
    o.id,
    (
        about.names && @ids::text []
        OR EXISTS (
            SELECT FROM stripe_erasures AS e
            WHERE e.id_hash = ANY(ARRAY(SELECT sha256(convert_to(name, 'UTF8')) FROM unnest(about.names) AS name))
                AND e.customer_hash = decode(@customer_hash::text, 'hex')
        )
        OR strpos(concat(o.object, o.newest_events), to_jsonb(@customer_id::text)::text) > 0
    )::boolean AS linked
FROM stripe_objects AS o
CROSS JOIN LATERAL (
    SELECT ARRAY[
        o.id,
        COALESCE(o.object #>> '{charge,id}', o.object ->> 'charge'), COALESCE(o.object #>> '{payment_intent,id}', o.object ->> 'payment_intent'),
        COALESCE(o.object #>> '{payment_method,id}', o.object ->> 'payment_method'), COALESCE(o.object #>> '{invoice,id}', o.object ->> 'invoice'),
        COALESCE(o.object #>> '{setup_intent,id}', o.object ->> 'setup_intent'),
        o.object #>> '{payment,charge}', o.object #>> '{payment,payment_intent}'
    ]::text [] AS names
) AS about
WHERE o.account_id = @account_id AND o.livemode = @livemode AND o.object_type = @object_type AND o.id > @after_id::text
    AND o.customer_id IS NULL
ORDER BY o.id
LIMIT @max_looked_at;

-- name: ErasurePayloadList :many
-- The next max_looked_at kept payloads: whether each is of an event of a customer's, and the event's object. It is the customer's if
-- its object names the customer; or if it names no customer, and its id or that of an object that it names is among ids or noted as
-- the customer's, or the text of the payload has the customer's id.
SELECT
    p.event_id, COALESCE(ledger.livemode, p.payload -> 'livemode' = 'true', FALSE)::boolean AS livemode,
    COALESCE(about.object_id, '')::text AS object_id, COALESCE(about.object_type, '')::text AS object_type,
    COALESCE(about.owner = @customer_id::text, FALSE)::boolean AS owned,
    COALESCE(
        COALESCE(ledger.account_id, p.payload ->> 'account', '') = ANY(@account_ids::text [])
        AND COALESCE(about.owner, @customer_id::text) = @customer_id::text
        AND (
            about.owner IS NOT NULL OR about.names && @ids::text []
            OR EXISTS (
                SELECT FROM stripe_erasures AS e
                WHERE e.id_hash = ANY(ARRAY(SELECT sha256(convert_to(name, 'UTF8')) FROM unnest(about.names) AS name))
                    AND e.customer_hash = decode(@customer_hash::text, 'hex')
            )
            OR strpos(p.payload::text, to_jsonb(@customer_id::text)::text) > 0
        ), FALSE
    )::boolean AS concerns
FROM (
    SELECT * FROM stripe_webhook_payloads AS one WHERE one.event_id > @after_event_id::text ORDER BY one.event_id LIMIT @max_looked_at
) AS p
LEFT JOIN stripe_webhook_events AS ledger ON ledger.event_id = p.event_id
CROSS JOIN LATERAL (
    SELECT
        COALESCE(p.payload #>> '{data,object,id}', p.payload #>> '{related_object,id}') AS object_id,
        COALESCE(p.payload #>> '{data,object,object}', p.payload #>> '{related_object,type}') AS object_type,
        CASE WHEN COALESCE(p.payload #>> '{data,object,object}', p.payload #>> '{related_object,type}') = 'customer'
            THEN COALESCE(p.payload #>> '{data,object,id}', p.payload #>> '{related_object,id}')
            ELSE COALESCE(p.payload #>> '{data,object,customer,id}', p.payload #>> '{data,object,customer}') END AS owner,
        ARRAY[
            COALESCE(p.payload #>> '{data,object,id}', p.payload #>> '{related_object,id}'),
            p.payload #>> '{data,object,charge}', p.payload #>> '{data,object,payment_intent}', p.payload #>> '{data,object,payment_method}',
            p.payload #>> '{data,object,invoice}', p.payload #>> '{data,object,setup_intent}',
            p.payload #>> '{data,object,payment,charge}', p.payload #>> '{data,object,payment,payment_intent}'
        ] AS names
) AS about
ORDER BY p.event_id;

-- name: ErasureFailureList :many
-- The next max_looked_at failures, as ErasurePayloadList has payloads. A failure is the customer's, too, if it names no other customer
-- and its texts have one of the ids.
SELECT
    f.event_id, COALESCE(ledger.livemode, f.payload -> 'livemode' = 'true', FALSE)::boolean AS livemode,
    COALESCE(about.object_id, '')::text AS object_id, COALESCE(about.object_type, '')::text AS object_type,
    COALESCE(about.owner = @customer_id::text, FALSE)::boolean AS owned,
    COALESCE(
        COALESCE(f.account_id, f.payload ->> 'account', '') = ANY(@account_ids::text [])
        AND COALESCE(about.owner, @customer_id::text) = @customer_id::text
        AND (
            about.owner IS NOT NULL OR about.names && @ids::text []
            OR EXISTS (
                SELECT FROM stripe_erasures AS e
                WHERE e.id_hash = ANY(ARRAY(SELECT sha256(convert_to(name, 'UTF8')) FROM unnest(about.names) AS name))
                    AND e.customer_hash = decode(@customer_hash::text, 'hex')
            )
            OR strpos(f.payload::text, to_jsonb(@customer_id::text)::text) > 0
            OR regexp_split_to_array(concat(f.last_error, ' ', f.history, ' ', f.reason), '[^A-Za-z0-9_]+') && (@ids::text [] || @customer_id::text)
        ), FALSE
    )::boolean AS concerns
FROM (
    SELECT * FROM stripe_webhook_failures AS one WHERE one.event_id > @after_event_id::text ORDER BY one.event_id LIMIT @max_looked_at
) AS f
LEFT JOIN stripe_webhook_events AS ledger ON ledger.event_id = f.event_id
CROSS JOIN LATERAL (
    SELECT
        COALESCE(f.payload #>> '{data,object,id}', f.payload #>> '{related_object,id}') AS object_id,
        COALESCE(f.payload #>> '{data,object,object}', f.payload #>> '{related_object,type}') AS object_type,
        CASE WHEN COALESCE(f.payload #>> '{data,object,object}', f.payload #>> '{related_object,type}') = 'customer'
            THEN COALESCE(f.payload #>> '{data,object,id}', f.payload #>> '{related_object,id}')
            ELSE COALESCE(f.payload #>> '{data,object,customer,id}', f.payload #>> '{data,object,customer}') END AS owner,
        ARRAY[
            COALESCE(f.payload #>> '{data,object,id}', f.payload #>> '{related_object,id}'),
            f.payload #>> '{data,object,charge}', f.payload #>> '{data,object,payment_intent}', f.payload #>> '{data,object,payment_method}',
            f.payload #>> '{data,object,invoice}', f.payload #>> '{data,object,setup_intent}',
            f.payload #>> '{data,object,payment,charge}', f.payload #>> '{data,object,payment,payment_intent}'
        ] AS names
) AS about
ORDER BY f.event_id;

-- name: ErasureEventList :many
-- The events of objects, by the index stripe_webhook_events_object_id_idx.
SELECT event_id FROM stripe_webhook_events
WHERE object_id = ANY(@object_ids::text []) AND COALESCE(account_id, '') = ANY(@account_ids::text []);

-- name: ErasureCustomerKnown :one
-- Whether the ledger has an event of a customer itself, or the customer was erased before.
SELECT (
    EXISTS (SELECT FROM stripe_erasures AS e WHERE e.id_hash = decode(@customer_hash::text, 'hex') AND e.account_id = ANY(@account_ids::text []))
    OR EXISTS (
        SELECT FROM stripe_webhook_events AS ledger
        WHERE ledger.object_id = @customer_id::text AND COALESCE(ledger.account_id, '') = ANY(@account_ids::text [])
            AND ledger.event_type IN ('customer.created', 'customer.updated', 'customer.deleted')
    )
)::boolean;

-- name: ErasureCount :one
-- How many of some events have anything to erase in the ledger, a payload, and a failure with anything to erase.
SELECT
    (SELECT count(*) FROM stripe_webhook_events AS e WHERE e.event_id = ANY(@event_ids::text []) AND e.object_id IS NOT NULL) AS events,
    (SELECT count(*) FROM stripe_webhook_payloads AS p WHERE p.event_id = ANY(@event_ids::text [])) AS payloads,
    (SELECT count(*) FROM stripe_webhook_failures AS f WHERE f.event_id = ANY(@event_ids::text []) AND (f.last_error <> @erased_text::text OR f.payload IS NOT NULL)) AS failures;

-- name: ErasureItemCount :one
SELECT count(*) FROM subscription_items WHERE subscription_id = ANY(@subscription_ids::text []);

-- name: ErasureRunCount :one
-- How many runs name a customer. It reads the whole table, which has few rows.
SELECT count(*) FROM stripe_webhook_runs AS r
WHERE strpos(concat(r.arguments, r.position, r.counts, r.error, r.reason), @customer_id::text) > 0;

-- name: ErasureFailureScrub :execrows
-- Removes what failures of events hold of a customer: the payload and every text.
UPDATE stripe_webhook_failures AS f
SET
    payload = NULL, last_error = @erased_text::text, reason = CASE WHEN f.reason IS NOT NULL THEN @erased_text::text END,
    history = COALESCE((SELECT jsonb_agg(jsonb_build_object('at', attempt -> 'at', 'error', @erased_text::text)) FROM jsonb_array_elements(f.history) AS attempt), '[]')
WHERE f.event_id = ANY(@event_ids::text []) AND (f.last_error <> @erased_text::text OR f.payload IS NOT NULL);

-- name: ErasurePayloadDelete :execrows
DELETE FROM stripe_webhook_payloads AS p WHERE p.event_id = ANY(@event_ids::text []);

-- name: ErasureEventScrub :execrows
-- Removes the ids of objects from events, and a customer's id from what an operator said of them.
UPDATE stripe_webhook_events AS e
SET object_id = NULL, reprocess_reason = replace(e.reprocess_reason, @customer_id::text, @replacement::text)
WHERE e.event_id = ANY(@event_ids::text []) AND e.object_id IS NOT NULL;

-- name: ErasureSubscriptionDelete :one
-- Deletes subscriptions with their items.
WITH items AS (
    DELETE FROM subscription_items AS i WHERE i.subscription_id = ANY(@ids::text []) RETURNING i.id
),

deleted AS (
    DELETE FROM subscriptions AS s WHERE s.id = ANY(@ids::text []) RETURNING s.id
)

SELECT (SELECT count(*) FROM deleted) AS subscriptions, (SELECT count(*) FROM items) AS items;

-- name: ErasureObjectDelete :execrows
-- Deletes objects of one account, mode and type.
DELETE FROM stripe_objects AS o
WHERE o.account_id = @account_id AND o.livemode = @livemode AND o.object_type = @object_type AND o.id = ANY(@ids::text []);

-- name: ErasureRunScrub :execrows
-- Replaces a customer's id in what runs have recorded.
UPDATE stripe_webhook_runs AS r
SET
    arguments = replace(r.arguments::text, @customer_id::text, @replacement::text)::jsonb,
    position = replace(r.position::text, @customer_id::text, @replacement::text)::jsonb,
    counts = replace(r.counts::text, @customer_id::text, @replacement::text)::jsonb,
    error = replace(r.error, @customer_id::text, @replacement::text),
    reason = replace(r.reason, @customer_id::text, @replacement::text)
WHERE strpos(concat(r.arguments, r.position, r.counts, r.error, r.reason), @customer_id::text) > 0;
