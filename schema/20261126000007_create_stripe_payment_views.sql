-- migrate:up

-- The views of payments, refunds, disputes and what else belongs to billing: as stripe_customers and its siblings.

CREATE VIEW stripe_charges AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.customer_id,
    s.status,
    (CASE WHEN o.amount ~ '^-?[0-9]{1,18}$' THEN o.amount::bigint END)::BIGINT AS amount,
    (CASE WHEN o.amount_captured ~ '^-?[0-9]{1,18}$' THEN o.amount_captured::bigint END)::BIGINT AS amount_captured,
    (CASE WHEN o.amount_refunded ~ '^-?[0-9]{1,18}$' THEN o.amount_refunded::bigint END)::BIGINT AS amount_refunded,
    o.currency::TEXT AS currency,
    (CASE WHEN o.captured IN ('true', 'false') THEN o.captured::boolean END)::BOOLEAN AS captured,
    (CASE WHEN o.paid IN ('true', 'false') THEN o.paid::boolean END)::BOOLEAN AS paid,
    (CASE WHEN o.refunded IN ('true', 'false') THEN o.refunded::boolean END)::BOOLEAN AS refunded,
    (CASE WHEN o.disputed IN ('true', 'false') THEN o.disputed::boolean END)::BOOLEAN AS disputed,
    o.failure_code::TEXT AS failure_code,
    o.failure_message::TEXT AS failure_message,
    o.description::TEXT AS description,
    (CASE jsonb_typeof(o.invoice) WHEN 'string' THEN o.invoice #>> '{}' WHEN 'object' THEN o.invoice ->> 'id' END)::TEXT AS invoice_id,
    (CASE jsonb_typeof(o.payment_intent)
        WHEN 'string' THEN o.payment_intent #>> '{}'
        WHEN 'object' THEN o.payment_intent ->> 'id'
    END)::TEXT AS payment_intent_id,
    (CASE jsonb_typeof(o.payment_method)
        WHEN 'string' THEN o.payment_method #>> '{}'
        WHEN 'object' THEN o.payment_method ->> 'id'
    END)::TEXT AS payment_method_id,
    (CASE jsonb_typeof(o.balance_transaction)
        WHEN 'string' THEN o.balance_transaction #>> '{}'
        WHEN 'object' THEN o.balance_transaction ->> 'id'
    END)::TEXT AS balance_transaction_id,
    (CASE jsonb_typeof(o.dispute) WHEN 'string' THEN o.dispute #>> '{}' WHEN 'object' THEN o.dispute ->> 'id' END)::TEXT AS dispute_id,
    o.receipt_email::TEXT AS receipt_email,
    o.receipt_number::TEXT AS receipt_number,
    o.receipt_url::TEXT AS receipt_url,
    o.statement_descriptor::TEXT AS statement_descriptor,
    o.outcome::JSONB AS outcome,
    o.billing_details::JSONB AS billing_details,
    o.payment_method_details::JSONB AS payment_method_details,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    amount TEXT, amount_captured TEXT, amount_refunded TEXT, currency TEXT, captured TEXT, paid TEXT, refunded TEXT,
    disputed TEXT, failure_code TEXT, failure_message TEXT, description TEXT, invoice JSONB, payment_intent JSONB,
    payment_method JSONB, balance_transaction JSONB, dispute JSONB, receipt_email TEXT, receipt_number TEXT,
    receipt_url TEXT, statement_descriptor TEXT, outcome JSONB, billing_details JSONB, payment_method_details JSONB,
    metadata JSONB
)
WHERE s.object_type = 'charge';

CREATE VIEW stripe_payment_intents AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.customer_id,
    s.status,
    (CASE WHEN o.amount ~ '^-?[0-9]{1,18}$' THEN o.amount::bigint END)::BIGINT AS amount,
    (CASE WHEN o.amount_capturable ~ '^-?[0-9]{1,18}$' THEN o.amount_capturable::bigint END)::BIGINT AS amount_capturable,
    (CASE WHEN o.amount_received ~ '^-?[0-9]{1,18}$' THEN o.amount_received::bigint END)::BIGINT AS amount_received,
    o.currency::TEXT AS currency,
    o.capture_method::TEXT AS capture_method,
    o.confirmation_method::TEXT AS confirmation_method,
    o.description::TEXT AS description,
    (CASE jsonb_typeof(o.invoice) WHEN 'string' THEN o.invoice #>> '{}' WHEN 'object' THEN o.invoice ->> 'id' END)::TEXT AS invoice_id,
    (CASE jsonb_typeof(o.latest_charge)
        WHEN 'string' THEN o.latest_charge #>> '{}'
        WHEN 'object' THEN o.latest_charge ->> 'id'
    END)::TEXT AS latest_charge_id,
    (CASE jsonb_typeof(o.payment_method)
        WHEN 'string' THEN o.payment_method #>> '{}'
        WHEN 'object' THEN o.payment_method ->> 'id'
    END)::TEXT AS payment_method_id,
    o.setup_future_usage::TEXT AS setup_future_usage,
    o.receipt_email::TEXT AS receipt_email,
    o.statement_descriptor::TEXT AS statement_descriptor,
    o.cancellation_reason::TEXT AS cancellation_reason,
    (CASE WHEN o.canceled_at ~ '^[0-9]{1,11}$' THEN to_timestamp(o.canceled_at::double precision) END)::TIMESTAMPTZ AS canceled_at,
    o.last_payment_error::JSONB AS last_payment_error,
    o.next_action::JSONB AS next_action,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    amount TEXT, amount_capturable TEXT, amount_received TEXT, currency TEXT, capture_method TEXT,
    confirmation_method TEXT, description TEXT, invoice JSONB, latest_charge JSONB, payment_method JSONB,
    setup_future_usage TEXT, receipt_email TEXT, statement_descriptor TEXT, cancellation_reason TEXT,
    canceled_at TEXT, last_payment_error JSONB, next_action JSONB, metadata JSONB
)
WHERE s.object_type = 'payment_intent';

CREATE VIEW stripe_refunds AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.status,
    (CASE WHEN o.amount ~ '^-?[0-9]{1,18}$' THEN o.amount::bigint END)::BIGINT AS amount,
    o.currency::TEXT AS currency,
    (CASE jsonb_typeof(o.charge) WHEN 'string' THEN o.charge #>> '{}' WHEN 'object' THEN o.charge ->> 'id' END)::TEXT AS charge_id,
    (CASE jsonb_typeof(o.payment_intent)
        WHEN 'string' THEN o.payment_intent #>> '{}'
        WHEN 'object' THEN o.payment_intent ->> 'id'
    END)::TEXT AS payment_intent_id,
    o.reason::TEXT AS reason,
    o.failure_reason::TEXT AS failure_reason,
    (CASE jsonb_typeof(o.balance_transaction)
        WHEN 'string' THEN o.balance_transaction #>> '{}'
        WHEN 'object' THEN o.balance_transaction ->> 'id'
    END)::TEXT AS balance_transaction_id,
    (CASE jsonb_typeof(o.failure_balance_transaction)
        WHEN 'string' THEN o.failure_balance_transaction #>> '{}'
        WHEN 'object' THEN o.failure_balance_transaction ->> 'id'
    END)::TEXT AS failure_balance_transaction_id,
    o.receipt_number::TEXT AS receipt_number,
    o.description::TEXT AS description,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    amount TEXT, currency TEXT, charge JSONB, payment_intent JSONB, reason TEXT, failure_reason TEXT,
    balance_transaction JSONB, failure_balance_transaction JSONB, receipt_number TEXT, description TEXT,
    metadata JSONB
)
WHERE s.object_type = 'refund';

CREATE VIEW stripe_disputes AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.status,
    (CASE WHEN o.amount ~ '^-?[0-9]{1,18}$' THEN o.amount::bigint END)::BIGINT AS amount,
    o.currency::TEXT AS currency,
    (CASE jsonb_typeof(o.charge) WHEN 'string' THEN o.charge #>> '{}' WHEN 'object' THEN o.charge ->> 'id' END)::TEXT AS charge_id,
    (CASE jsonb_typeof(o.payment_intent)
        WHEN 'string' THEN o.payment_intent #>> '{}'
        WHEN 'object' THEN o.payment_intent ->> 'id'
    END)::TEXT AS payment_intent_id,
    o.reason::TEXT AS reason,
    (CASE WHEN o.is_charge_refundable IN ('true', 'false') THEN o.is_charge_refundable::boolean END)::BOOLEAN AS is_charge_refundable,
    (CASE WHEN o.evidence_details ->> 'due_by' ~ '^[0-9]{1,11}$'
        THEN to_timestamp((o.evidence_details ->> 'due_by')::double precision)
    END)::TIMESTAMPTZ AS evidence_details_due_by,
    (CASE WHEN o.evidence_details ->> 'has_evidence' IN ('true', 'false')
        THEN (o.evidence_details ->> 'has_evidence')::boolean
    END)::BOOLEAN AS evidence_details_has_evidence,
    (CASE WHEN o.evidence_details ->> 'past_due' IN ('true', 'false')
        THEN (o.evidence_details ->> 'past_due')::boolean
    END)::BOOLEAN AS evidence_details_past_due,
    (CASE WHEN o.evidence_details ->> 'submission_count' ~ '^-?[0-9]{1,18}$'
        THEN (o.evidence_details ->> 'submission_count')::bigint
    END)::BIGINT AS evidence_details_submission_count,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    amount TEXT, currency TEXT, charge JSONB, payment_intent JSONB, reason TEXT, is_charge_refundable TEXT,
    evidence_details JSONB, metadata JSONB
)
WHERE s.object_type = 'dispute';

CREATE VIEW stripe_payment_methods AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.customer_id,
    o.type::TEXT AS type,
    o.allow_redisplay::TEXT AS allow_redisplay,
    o.billing_details::JSONB AS billing_details,
    (o.card ->> 'brand')::TEXT AS card_brand,
    (o.card ->> 'last4')::TEXT AS card_last4,
    (CASE WHEN o.card ->> 'exp_month' ~ '^-?[0-9]{1,18}$' THEN (o.card ->> 'exp_month')::bigint END)::BIGINT AS card_exp_month,
    (CASE WHEN o.card ->> 'exp_year' ~ '^-?[0-9]{1,18}$' THEN (o.card ->> 'exp_year')::bigint END)::BIGINT AS card_exp_year,
    (o.card ->> 'country')::TEXT AS card_country,
    (o.card ->> 'funding')::TEXT AS card_funding,
    (o.card ->> 'fingerprint')::TEXT AS card_fingerprint,
    o.card::JSONB AS card,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    type TEXT, allow_redisplay TEXT, billing_details JSONB, card JSONB, metadata JSONB
)
WHERE s.object_type = 'payment_method';

CREATE VIEW stripe_checkout_sessions AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.customer_id,
    s.subscription_id,
    s.status,
    o.payment_status::TEXT AS payment_status,
    o.mode::TEXT AS mode,
    (CASE WHEN o.amount_subtotal ~ '^-?[0-9]{1,18}$' THEN o.amount_subtotal::bigint END)::BIGINT AS amount_subtotal,
    (CASE WHEN o.amount_total ~ '^-?[0-9]{1,18}$' THEN o.amount_total::bigint END)::BIGINT AS amount_total,
    o.currency::TEXT AS currency,
    o.client_reference_id::TEXT AS client_reference_id,
    o.customer_email::TEXT AS customer_email,
    o.customer_details::JSONB AS customer_details,
    (CASE jsonb_typeof(o.payment_intent)
        WHEN 'string' THEN o.payment_intent #>> '{}'
        WHEN 'object' THEN o.payment_intent ->> 'id'
    END)::TEXT AS payment_intent_id,
    (CASE jsonb_typeof(o.setup_intent)
        WHEN 'string' THEN o.setup_intent #>> '{}'
        WHEN 'object' THEN o.setup_intent ->> 'id'
    END)::TEXT AS setup_intent_id,
    (CASE jsonb_typeof(o.invoice) WHEN 'string' THEN o.invoice #>> '{}' WHEN 'object' THEN o.invoice ->> 'id' END)::TEXT AS invoice_id,
    (CASE jsonb_typeof(o.payment_link)
        WHEN 'string' THEN o.payment_link #>> '{}'
        WHEN 'object' THEN o.payment_link ->> 'id'
    END)::TEXT AS payment_link_id,
    o.success_url::TEXT AS success_url,
    o.cancel_url::TEXT AS cancel_url,
    o.url::TEXT AS url,
    (CASE WHEN o.expires_at ~ '^[0-9]{1,11}$' THEN to_timestamp(o.expires_at::double precision) END)::TIMESTAMPTZ AS expires_at,
    s.lists_complete AS line_items_complete,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    payment_status TEXT, mode TEXT, amount_subtotal TEXT, amount_total TEXT, currency TEXT, client_reference_id TEXT,
    customer_email TEXT, customer_details JSONB, payment_intent JSONB, setup_intent JSONB, invoice JSONB,
    payment_link JSONB, success_url TEXT, cancel_url TEXT, url TEXT, expires_at TEXT, metadata JSONB
)
WHERE s.object_type = 'checkout.session';

CREATE VIEW stripe_credit_notes AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.customer_id,
    s.status,
    (CASE jsonb_typeof(o.invoice) WHEN 'string' THEN o.invoice #>> '{}' WHEN 'object' THEN o.invoice ->> 'id' END)::TEXT AS invoice_id,
    o.number::TEXT AS number,
    (CASE WHEN o.amount ~ '^-?[0-9]{1,18}$' THEN o.amount::bigint END)::BIGINT AS amount,
    (CASE WHEN o.subtotal ~ '^-?[0-9]{1,18}$' THEN o.subtotal::bigint END)::BIGINT AS subtotal,
    (CASE WHEN o.total ~ '^-?[0-9]{1,18}$' THEN o.total::bigint END)::BIGINT AS total,
    o.currency::TEXT AS currency,
    o.reason::TEXT AS reason,
    o.type::TEXT AS type,
    o.memo::TEXT AS memo,
    (CASE jsonb_typeof(o.refund) WHEN 'string' THEN o.refund #>> '{}' WHEN 'object' THEN o.refund ->> 'id' END)::TEXT AS refund_id,
    (CASE jsonb_typeof(o.customer_balance_transaction)
        WHEN 'string' THEN o.customer_balance_transaction #>> '{}'
        WHEN 'object' THEN o.customer_balance_transaction ->> 'id'
    END)::TEXT AS customer_balance_transaction_id,
    (CASE WHEN o.out_of_band_amount ~ '^-?[0-9]{1,18}$' THEN o.out_of_band_amount::bigint END)::BIGINT AS out_of_band_amount,
    o.pdf::TEXT AS pdf,
    (CASE WHEN o.effective_at ~ '^[0-9]{1,11}$' THEN to_timestamp(o.effective_at::double precision) END)::TIMESTAMPTZ AS effective_at,
    (CASE WHEN o.voided_at ~ '^[0-9]{1,11}$' THEN to_timestamp(o.voided_at::double precision) END)::TIMESTAMPTZ AS voided_at,
    s.lists_complete AS lines_complete,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    invoice JSONB, number TEXT, amount TEXT, subtotal TEXT, total TEXT, currency TEXT, reason TEXT, type TEXT,
    memo TEXT, refund JSONB, customer_balance_transaction JSONB, out_of_band_amount TEXT, pdf TEXT, effective_at TEXT,
    voided_at TEXT, metadata JSONB
)
WHERE s.object_type = 'credit_note';

CREATE VIEW stripe_subscription_schedules AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.customer_id,
    s.subscription_id,
    s.status,
    o.end_behavior::TEXT AS end_behavior,
    (CASE WHEN o.current_phase ->> 'start_date' ~ '^[0-9]{1,11}$'
        THEN to_timestamp((o.current_phase ->> 'start_date')::double precision)
    END)::TIMESTAMPTZ AS current_phase_start_date,
    (CASE WHEN o.current_phase ->> 'end_date' ~ '^[0-9]{1,11}$'
        THEN to_timestamp((o.current_phase ->> 'end_date')::double precision)
    END)::TIMESTAMPTZ AS current_phase_end_date,
    (CASE jsonb_typeof(o.released_subscription)
        WHEN 'string' THEN o.released_subscription #>> '{}'
        WHEN 'object' THEN o.released_subscription ->> 'id'
    END)::TEXT AS released_subscription_id,
    (CASE WHEN o.released_at ~ '^[0-9]{1,11}$' THEN to_timestamp(o.released_at::double precision) END)::TIMESTAMPTZ AS released_at,
    (CASE WHEN o.canceled_at ~ '^[0-9]{1,11}$' THEN to_timestamp(o.canceled_at::double precision) END)::TIMESTAMPTZ AS canceled_at,
    (CASE WHEN o.completed_at ~ '^[0-9]{1,11}$' THEN to_timestamp(o.completed_at::double precision) END)::TIMESTAMPTZ AS completed_at,
    o.default_settings::JSONB AS default_settings,
    o.phases::JSONB AS phases,
    (CASE jsonb_typeof(o.test_clock)
        WHEN 'string' THEN o.test_clock #>> '{}'
        WHEN 'object' THEN o.test_clock ->> 'id'
    END)::TEXT AS test_clock_id,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    end_behavior TEXT, current_phase JSONB, released_subscription JSONB, released_at TEXT, canceled_at TEXT,
    completed_at TEXT, default_settings JSONB, phases JSONB, test_clock JSONB, metadata JSONB
)
WHERE s.object_type = 'subscription_schedule';

CREATE VIEW stripe_coupons AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    o.name::TEXT AS name,
    (CASE WHEN o.percent_off ~ '^-?[0-9]{1,30}(\.[0-9]{1,30})?$' THEN o.percent_off::numeric END)::NUMERIC AS percent_off,
    (CASE WHEN o.amount_off ~ '^-?[0-9]{1,18}$' THEN o.amount_off::bigint END)::BIGINT AS amount_off,
    o.currency::TEXT AS currency,
    o.duration::TEXT AS duration,
    (CASE WHEN o.duration_in_months ~ '^-?[0-9]{1,18}$' THEN o.duration_in_months::bigint END)::BIGINT AS duration_in_months,
    (CASE WHEN o.max_redemptions ~ '^-?[0-9]{1,18}$' THEN o.max_redemptions::bigint END)::BIGINT AS max_redemptions,
    (CASE WHEN o.times_redeemed ~ '^-?[0-9]{1,18}$' THEN o.times_redeemed::bigint END)::BIGINT AS times_redeemed,
    (CASE WHEN o.redeem_by ~ '^[0-9]{1,11}$' THEN to_timestamp(o.redeem_by::double precision) END)::TIMESTAMPTZ AS redeem_by,
    (CASE WHEN o.valid IN ('true', 'false') THEN o.valid::boolean END)::BOOLEAN AS valid,
    o.applies_to::JSONB AS applies_to,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    name TEXT, percent_off TEXT, amount_off TEXT, currency TEXT, duration TEXT, duration_in_months TEXT,
    max_redemptions TEXT, times_redeemed TEXT, redeem_by TEXT, valid TEXT, applies_to JSONB, metadata JSONB
)
WHERE s.object_type = 'coupon';

CREATE VIEW stripe_promotion_codes AS
SELECT
    s.id,
    s.account_id,
    s.livemode,
    s.deleted,
    s.customer_id,
    o.code::TEXT AS code,
    (CASE WHEN o.active IN ('true', 'false') THEN o.active::boolean END)::BOOLEAN AS active,
    COALESCE(
        (CASE jsonb_typeof(o.coupon) WHEN 'string' THEN o.coupon #>> '{}' WHEN 'object' THEN o.coupon ->> 'id' END),
        (CASE jsonb_typeof(o.promotion -> 'coupon') WHEN 'string' THEN o.promotion ->> 'coupon' WHEN 'object' THEN o.promotion #>> '{coupon,id}' END)
    )::TEXT AS coupon_id,
    (CASE WHEN o.expires_at ~ '^[0-9]{1,11}$' THEN to_timestamp(o.expires_at::double precision) END)::TIMESTAMPTZ AS expires_at,
    (CASE WHEN o.max_redemptions ~ '^-?[0-9]{1,18}$' THEN o.max_redemptions::bigint END)::BIGINT AS max_redemptions,
    (CASE WHEN o.times_redeemed ~ '^-?[0-9]{1,18}$' THEN o.times_redeemed::bigint END)::BIGINT AS times_redeemed,
    (CASE WHEN o.restrictions ->> 'first_time_transaction' IN ('true', 'false')
        THEN (o.restrictions ->> 'first_time_transaction')::boolean
    END)::BOOLEAN AS restrictions_first_time_transaction,
    (CASE WHEN o.restrictions ->> 'minimum_amount' ~ '^-?[0-9]{1,18}$'
        THEN (o.restrictions ->> 'minimum_amount')::bigint
    END)::BIGINT AS restrictions_minimum_amount,
    (o.restrictions ->> 'minimum_amount_currency')::TEXT AS restrictions_minimum_amount_currency,
    o.metadata::JSONB AS metadata,
    s.stripe_created_at AS created
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_record(s.object) AS o (
    code TEXT, active TEXT, coupon JSONB, promotion JSONB, expires_at TEXT, max_redemptions TEXT, times_redeemed TEXT,
    restrictions JSONB, metadata JSONB
)
WHERE s.object_type = 'promotion_code';

-- As for the views before: the rights of the reader decide what a view shows, from PostgreSQL 15 on, and Supabase's public REST
-- API sees none of them.
DO $$
DECLARE
    view_name TEXT;
    role_name NAME;
BEGIN
    FOREACH view_name IN ARRAY ARRAY[
        'stripe_charges', 'stripe_payment_intents', 'stripe_refunds', 'stripe_disputes', 'stripe_payment_methods',
        'stripe_checkout_sessions', 'stripe_credit_notes', 'stripe_subscription_schedules', 'stripe_coupons',
        'stripe_promotion_codes'
    ] LOOP
        IF current_setting('server_version_num')::int >= 150000 THEN
            EXECUTE format('ALTER VIEW %I SET (security_invoker = true)', view_name);
        END IF;
        FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON %I FROM %I', view_name, role_name);
        END LOOP;
    END LOOP;
END
$$;

-- migrate:down

DROP VIEW stripe_promotion_codes;
DROP VIEW stripe_coupons;
DROP VIEW stripe_subscription_schedules;
DROP VIEW stripe_credit_notes;
DROP VIEW stripe_checkout_sessions;
DROP VIEW stripe_payment_methods;
DROP VIEW stripe_disputes;
DROP VIEW stripe_refunds;
DROP VIEW stripe_payment_intents;
DROP VIEW stripe_charges;
