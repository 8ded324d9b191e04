-- migrate:up

-- Mirrored objects with their members as typed columns, in any API version. The names are Stripe's; a reference to another
-- object, by its id or expanded, is a column that ends in _id, and a member of a nested hash has the names of both. A value that
-- its type cannot hold is null, so that an odd object never fails a query. jsonb_to_record reads the object once for a row.

CREATE VIEW stripe_customers AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    o.name::TEXT AS name,
    o.email::TEXT AS email,
    o.phone::TEXT AS phone,
    o.description::TEXT AS description,
    o.currency::TEXT AS currency,
    (CASE WHEN o.balance ~ '^-?[0-9]{1,18}$' THEN o.balance::bigint END)::BIGINT AS balance,
    (CASE WHEN o.delinquent IN ('true', 'false') THEN o.delinquent::boolean END)::BOOLEAN AS delinquent,
    (CASE jsonb_typeof(o.default_source)
        WHEN 'string' THEN o.default_source #>> '{}'
        WHEN 'object' THEN o.default_source ->> 'id'
    END)::TEXT AS default_source_id,
    (CASE jsonb_typeof(o.invoice_settings -> 'default_payment_method')
        WHEN 'string' THEN (o.invoice_settings -> 'default_payment_method') #>> '{}'
        WHEN 'object' THEN (o.invoice_settings -> 'default_payment_method') ->> 'id'
    END)::TEXT AS invoice_settings_default_payment_method_id,
    o.invoice_prefix::TEXT AS invoice_prefix,
    o.tax_exempt::TEXT AS tax_exempt,
    o.address::JSONB AS address,
    o.shipping::JSONB AS shipping,
    o.preferred_locales::JSONB AS preferred_locales,
    (CASE jsonb_typeof(o.test_clock)
        WHEN 'string' THEN o.test_clock #>> '{}'
        WHEN 'object' THEN o.test_clock ->> 'id'
    END)::TEXT AS test_clock_id,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    name TEXT, email TEXT, phone TEXT, description TEXT, currency TEXT, balance TEXT, delinquent TEXT,
    default_source JSONB, invoice_settings JSONB, invoice_prefix TEXT, tax_exempt TEXT, address JSONB,
    shipping JSONB, preferred_locales JSONB, test_clock JSONB, metadata JSONB
)
WHERE s.object_type = 'customer';

CREATE VIEW stripe_products AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    o.name::TEXT AS name,
    o.description::TEXT AS description,
    (CASE WHEN o.active IN ('true', 'false') THEN o.active::boolean END)::BOOLEAN AS active,
    o.type::TEXT AS type,
    (CASE jsonb_typeof(o.default_price)
        WHEN 'string' THEN o.default_price #>> '{}'
        WHEN 'object' THEN o.default_price ->> 'id'
    END)::TEXT AS default_price_id,
    (CASE jsonb_typeof(o.tax_code) WHEN 'string' THEN o.tax_code #>> '{}' WHEN 'object' THEN o.tax_code ->> 'id' END)::TEXT AS tax_code_id,
    o.statement_descriptor::TEXT AS statement_descriptor,
    o.unit_label::TEXT AS unit_label,
    (CASE WHEN o.shippable IN ('true', 'false') THEN o.shippable::boolean END)::BOOLEAN AS shippable,
    o.url::TEXT AS url,
    o.images::JSONB AS images,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created,
    (CASE WHEN o.updated ~ '^[0-9]{1,11}$' THEN to_timestamp(o.updated::double precision) END)::TIMESTAMPTZ AS updated
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    name TEXT, description TEXT, active TEXT, type TEXT, default_price JSONB, tax_code JSONB,
    statement_descriptor TEXT, unit_label TEXT, shippable TEXT, url TEXT, images JSONB, metadata JSONB, updated TEXT
)
WHERE s.object_type = 'product';

CREATE VIEW stripe_prices AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    (CASE jsonb_typeof(o.product) WHEN 'string' THEN o.product #>> '{}' WHEN 'object' THEN o.product ->> 'id' END)::TEXT AS product_id,
    (CASE WHEN o.active IN ('true', 'false') THEN o.active::boolean END)::BOOLEAN AS active,
    o.currency::TEXT AS currency,
    o.type::TEXT AS type,
    (CASE WHEN o.unit_amount ~ '^-?[0-9]{1,18}$' THEN o.unit_amount::bigint END)::BIGINT AS unit_amount,
    (CASE WHEN o.unit_amount_decimal ~ '^-?[0-9]{1,30}(\.[0-9]{1,30})?$'
        THEN o.unit_amount_decimal::numeric
    END)::NUMERIC AS unit_amount_decimal,
    o.billing_scheme::TEXT AS billing_scheme,
    o.tiers_mode::TEXT AS tiers_mode,
    o.nickname::TEXT AS nickname,
    o.lookup_key::TEXT AS lookup_key,
    o.tax_behavior::TEXT AS tax_behavior,
    (o.recurring ->> 'interval')::TEXT AS recurring_interval,
    (o.recurring ->> 'usage_type')::TEXT AS recurring_usage_type,
    (CASE WHEN o.recurring ->> 'interval_count' ~ '^-?[0-9]{1,18}$'
        THEN (o.recurring ->> 'interval_count')::bigint
    END)::BIGINT AS recurring_interval_count,
    (CASE jsonb_typeof(o.recurring -> 'meter')
        WHEN 'string' THEN (o.recurring -> 'meter') #>> '{}'
        WHEN 'object' THEN (o.recurring -> 'meter') ->> 'id'
    END)::TEXT AS recurring_meter_id,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    product JSONB, active TEXT, currency TEXT, type TEXT, unit_amount TEXT, unit_amount_decimal TEXT,
    billing_scheme TEXT, tiers_mode TEXT, nickname TEXT, lookup_key TEXT, tax_behavior TEXT, recurring JSONB,
    metadata JSONB
)
WHERE s.object_type = 'price';

CREATE VIEW stripe_invoices AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.customer_id,
    s.subscription_id,
    s.status,
    o.number::TEXT AS number,
    o.currency::TEXT AS currency,
    o.collection_method::TEXT AS collection_method,
    o.billing_reason::TEXT AS billing_reason,
    (CASE WHEN o.amount_due ~ '^-?[0-9]{1,18}$' THEN o.amount_due::bigint END)::BIGINT AS amount_due,
    (CASE WHEN o.amount_paid ~ '^-?[0-9]{1,18}$' THEN o.amount_paid::bigint END)::BIGINT AS amount_paid,
    (CASE WHEN o.amount_remaining ~ '^-?[0-9]{1,18}$' THEN o.amount_remaining::bigint END)::BIGINT AS amount_remaining,
    (CASE WHEN o.amount_overpaid ~ '^-?[0-9]{1,18}$' THEN o.amount_overpaid::bigint END)::BIGINT AS amount_overpaid,
    (CASE WHEN o.subtotal ~ '^-?[0-9]{1,18}$' THEN o.subtotal::bigint END)::BIGINT AS subtotal,
    (CASE WHEN o.subtotal_excluding_tax ~ '^-?[0-9]{1,18}$' THEN o.subtotal_excluding_tax::bigint END)::BIGINT AS subtotal_excluding_tax,
    (CASE WHEN o.total ~ '^-?[0-9]{1,18}$' THEN o.total::bigint END)::BIGINT AS total,
    (CASE WHEN o.total_excluding_tax ~ '^-?[0-9]{1,18}$' THEN o.total_excluding_tax::bigint END)::BIGINT AS total_excluding_tax,
    (CASE WHEN o.starting_balance ~ '^-?[0-9]{1,18}$' THEN o.starting_balance::bigint END)::BIGINT AS starting_balance,
    (CASE WHEN o.ending_balance ~ '^-?[0-9]{1,18}$' THEN o.ending_balance::bigint END)::BIGINT AS ending_balance,
    (CASE WHEN o.attempt_count ~ '^-?[0-9]{1,18}$' THEN o.attempt_count::bigint END)::BIGINT AS attempt_count,
    (CASE WHEN o.attempted IN ('true', 'false') THEN o.attempted::boolean END)::BOOLEAN AS attempted,
    (CASE WHEN o.auto_advance IN ('true', 'false') THEN o.auto_advance::boolean END)::BOOLEAN AS auto_advance,
    (CASE WHEN o.paid IN ('true', 'false') THEN o.paid::boolean WHEN s.status IS NOT NULL THEN s.status = 'paid' END)::BOOLEAN AS paid,
    (CASE jsonb_typeof(o.charge) WHEN 'string' THEN o.charge #>> '{}' WHEN 'object' THEN o.charge ->> 'id' END)::TEXT AS charge_id,
    (CASE jsonb_typeof(o.payment_intent)
        WHEN 'string' THEN o.payment_intent #>> '{}'
        WHEN 'object' THEN o.payment_intent ->> 'id'
    END)::TEXT AS payment_intent_id,
    (CASE jsonb_typeof(o.default_payment_method)
        WHEN 'string' THEN o.default_payment_method #>> '{}'
        WHEN 'object' THEN o.default_payment_method ->> 'id'
    END)::TEXT AS default_payment_method_id,
    o.customer_name::TEXT AS customer_name,
    o.customer_email::TEXT AS customer_email,
    o.description::TEXT AS description,
    o.hosted_invoice_url::TEXT AS hosted_invoice_url,
    o.invoice_pdf::TEXT AS invoice_pdf,
    (CASE WHEN o.due_date ~ '^[0-9]{1,11}$' THEN to_timestamp(o.due_date::double precision) END)::TIMESTAMPTZ AS due_date,
    (CASE WHEN o.effective_at ~ '^[0-9]{1,11}$' THEN to_timestamp(o.effective_at::double precision) END)::TIMESTAMPTZ AS effective_at,
    (CASE WHEN o.next_payment_attempt ~ '^[0-9]{1,11}$'
        THEN to_timestamp(o.next_payment_attempt::double precision)
    END)::TIMESTAMPTZ AS next_payment_attempt,
    (CASE WHEN o.period_start ~ '^[0-9]{1,11}$' THEN to_timestamp(o.period_start::double precision) END)::TIMESTAMPTZ AS period_start,
    (CASE WHEN o.period_end ~ '^[0-9]{1,11}$' THEN to_timestamp(o.period_end::double precision) END)::TIMESTAMPTZ AS period_end,
    (CASE WHEN o.status_transitions ->> 'finalized_at' ~ '^[0-9]{1,11}$'
        THEN to_timestamp((o.status_transitions ->> 'finalized_at')::double precision)
    END)::TIMESTAMPTZ AS status_transitions_finalized_at,
    (CASE WHEN o.status_transitions ->> 'marked_uncollectible_at' ~ '^[0-9]{1,11}$'
        THEN to_timestamp((o.status_transitions ->> 'marked_uncollectible_at')::double precision)
    END)::TIMESTAMPTZ AS status_transitions_marked_uncollectible_at,
    (CASE WHEN o.status_transitions ->> 'paid_at' ~ '^[0-9]{1,11}$'
        THEN to_timestamp((o.status_transitions ->> 'paid_at')::double precision)
    END)::TIMESTAMPTZ AS status_transitions_paid_at,
    (CASE WHEN o.status_transitions ->> 'voided_at' ~ '^[0-9]{1,11}$'
        THEN to_timestamp((o.status_transitions ->> 'voided_at')::double precision)
    END)::TIMESTAMPTZ AS status_transitions_voided_at,
    s.lists_complete AS lines_complete,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    number TEXT, currency TEXT, collection_method TEXT, billing_reason TEXT, amount_due TEXT, amount_paid TEXT,
    amount_remaining TEXT, amount_overpaid TEXT, subtotal TEXT, subtotal_excluding_tax TEXT, total TEXT,
    total_excluding_tax TEXT, starting_balance TEXT, ending_balance TEXT, attempt_count TEXT, attempted TEXT,
    auto_advance TEXT, paid TEXT, charge JSONB, payment_intent JSONB, default_payment_method JSONB,
    customer_name TEXT, customer_email TEXT, description TEXT, hosted_invoice_url TEXT, invoice_pdf TEXT,
    due_date TEXT, effective_at TEXT, next_payment_attempt TEXT, period_start TEXT, period_end TEXT,
    status_transitions JSONB, metadata JSONB
)
WHERE s.object_type = 'invoice';

-- The lines of the invoices. Of an invoice whose lines_complete is false, only the first are here.
CREATE VIEW stripe_invoice_lines AS
SELECT
    COALESCE(o.id, '')::TEXT AS id,
    s.id AS invoice_id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.customer_id,
    line.position::BIGINT AS position,
    (CASE WHEN o.amount ~ '^-?[0-9]{1,18}$' THEN o.amount::bigint END)::BIGINT AS amount,
    o.currency::TEXT AS currency,
    o.description::TEXT AS description,
    (CASE WHEN o.quantity ~ '^-?[0-9]{1,18}$' THEN o.quantity::bigint END)::BIGINT AS quantity,
    (CASE WHEN o.discountable IN ('true', 'false') THEN o.discountable::boolean END)::BOOLEAN AS discountable,
    COALESCE(
        (CASE jsonb_typeof(o.price) WHEN 'string' THEN o.price #>> '{}' WHEN 'object' THEN o.price ->> 'id' END),
        (CASE jsonb_typeof(o.pricing #> '{price_details,price}')
            WHEN 'string' THEN o.pricing #>> '{price_details,price}' WHEN 'object' THEN o.pricing #>> '{price_details,price,id}'
        END),
        o.plan ->> 'id'
    )::TEXT AS price_id,
    COALESCE(
        (CASE jsonb_typeof(o.price -> 'product') WHEN 'string' THEN o.price ->> 'product' WHEN 'object' THEN o.price #>> '{product,id}' END),
        o.pricing #>> '{price_details,product}'
    )::TEXT AS product_id,
    COALESCE(
        (CASE jsonb_typeof(o.subscription) WHEN 'string' THEN o.subscription #>> '{}' WHEN 'object' THEN o.subscription ->> 'id' END),
        o.parent #>> '{subscription_item_details,subscription}',
        o.parent #>> '{invoice_item_details,subscription}'
    )::TEXT AS subscription_id,
    COALESCE(o.subscription_item, o.parent #>> '{subscription_item_details,subscription_item}')::TEXT AS subscription_item_id,
    (CASE WHEN COALESCE(o.proration, o.parent #>> '{subscription_item_details,proration}', o.parent #>> '{invoice_item_details,proration}')
        IN ('true', 'false')
        THEN COALESCE(o.proration, o.parent #>> '{subscription_item_details,proration}', o.parent #>> '{invoice_item_details,proration}')::boolean
    END)::BOOLEAN AS proration,
    (CASE WHEN o.period ->> 'start' ~ '^[0-9]{1,11}$'
        THEN to_timestamp((o.period ->> 'start')::double precision)
    END)::TIMESTAMPTZ AS period_start,
    (CASE WHEN o.period ->> 'end' ~ '^[0-9]{1,11}$'
        THEN to_timestamp((o.period ->> 'end')::double precision)
    END)::TIMESTAMPTZ AS period_end,
    o.metadata::JSONB AS metadata
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_array_elements(
    CASE WHEN jsonb_typeof(s.object #> '{lines,data}') = 'array' THEN s.object #> '{lines,data}' ELSE '[]' END
) WITH ORDINALITY AS line (object, position)
CROSS JOIN LATERAL jsonb_to_record(CASE WHEN jsonb_typeof(line.object) = 'object' THEN line.object ELSE '{}' END) AS o (
    id TEXT, amount TEXT, currency TEXT, description TEXT, quantity TEXT, discountable TEXT, price JSONB, pricing JSONB, plan JSONB,
    subscription JSONB, parent JSONB, subscription_item TEXT, proration TEXT, period JSONB, metadata JSONB
)
WHERE s.object_type = 'invoice';

-- The rights of the reader, not of the owner, decide what a view shows: from PostgreSQL 15 on.
DO $$
DECLARE
    view_name TEXT;
BEGIN
    IF current_setting('server_version_num')::int >= 150000 THEN
        FOREACH view_name IN ARRAY ARRAY['stripe_customers', 'stripe_products', 'stripe_prices', 'stripe_invoices', 'stripe_invoice_lines'] LOOP
            EXECUTE format('ALTER VIEW %I SET (security_invoker = true)', view_name);
        END LOOP;
    END IF;
END
$$;

-- As for the tables: Supabase's public REST API uses these roles.
DO $$
DECLARE
    role_name NAME;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format(
            'REVOKE ALL ON stripe_customers, stripe_products, stripe_prices, stripe_invoices, stripe_invoice_lines FROM %I', role_name
        );
    END LOOP;
END
$$;

-- migrate:down

DROP VIEW stripe_invoice_lines;
DROP VIEW stripe_invoices;
DROP VIEW stripe_prices;
DROP VIEW stripe_products;
DROP VIEW stripe_customers;
