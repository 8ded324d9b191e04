-- What the views of Stripe's objects hold, for sqlc alone, which takes every expression for one that is never null: dbmate skips
-- this file, since its name does not begin with a number. A test compares it with the views.

DROP VIEW stripe_customers;
CREATE TABLE stripe_customers (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    name TEXT,
    email TEXT,
    phone TEXT,
    description TEXT,
    currency TEXT,
    balance BIGINT,
    delinquent BOOLEAN,
    default_source_id TEXT,
    invoice_settings_default_payment_method_id TEXT,
    invoice_prefix TEXT,
    tax_exempt TEXT,
    address JSONB,
    shipping JSONB,
    preferred_locales JSONB,
    test_clock_id TEXT,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_products;
CREATE TABLE stripe_products (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    name TEXT,
    description TEXT,
    active BOOLEAN,
    type TEXT,
    default_price_id TEXT,
    tax_code_id TEXT,
    statement_descriptor TEXT,
    unit_label TEXT,
    shippable BOOLEAN,
    url TEXT,
    images JSONB,
    metadata JSONB,
    created TIMESTAMPTZ,
    updated TIMESTAMPTZ
);

DROP VIEW stripe_prices;
CREATE TABLE stripe_prices (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    product_id TEXT,
    active BOOLEAN,
    currency TEXT,
    type TEXT,
    unit_amount BIGINT,
    unit_amount_decimal NUMERIC,
    billing_scheme TEXT,
    tiers_mode TEXT,
    nickname TEXT,
    lookup_key TEXT,
    tax_behavior TEXT,
    recurring_interval TEXT,
    recurring_usage_type TEXT,
    recurring_interval_count BIGINT,
    recurring_meter_id TEXT,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_invoices;
CREATE TABLE stripe_invoices (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    customer_id VARCHAR,
    subscription_id VARCHAR,
    status VARCHAR,
    number TEXT,
    currency TEXT,
    collection_method TEXT,
    billing_reason TEXT,
    amount_due BIGINT,
    amount_paid BIGINT,
    amount_remaining BIGINT,
    amount_overpaid BIGINT,
    subtotal BIGINT,
    subtotal_excluding_tax BIGINT,
    total BIGINT,
    total_excluding_tax BIGINT,
    starting_balance BIGINT,
    ending_balance BIGINT,
    attempt_count BIGINT,
    attempted BOOLEAN,
    auto_advance BOOLEAN,
    paid BOOLEAN,
    charge_id TEXT,
    payment_intent_id TEXT,
    default_payment_method_id TEXT,
    customer_name TEXT,
    customer_email TEXT,
    description TEXT,
    hosted_invoice_url TEXT,
    invoice_pdf TEXT,
    due_date TIMESTAMPTZ,
    effective_at TIMESTAMPTZ,
    next_payment_attempt TIMESTAMPTZ,
    period_start TIMESTAMPTZ,
    period_end TIMESTAMPTZ,
    status_transitions_finalized_at TIMESTAMPTZ,
    status_transitions_marked_uncollectible_at TIMESTAMPTZ,
    status_transitions_paid_at TIMESTAMPTZ,
    status_transitions_voided_at TIMESTAMPTZ,
    lines_complete BOOLEAN NOT NULL,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_invoice_lines;
CREATE TABLE stripe_invoice_lines (
    id TEXT NOT NULL,
    invoice_id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    customer_id VARCHAR,
    position BIGINT NOT NULL,
    amount BIGINT,
    currency TEXT,
    description TEXT,
    quantity BIGINT,
    discountable BOOLEAN,
    price_id TEXT,
    product_id TEXT,
    subscription_id TEXT,
    subscription_item_id TEXT,
    proration BOOLEAN,
    period_start TIMESTAMPTZ,
    period_end TIMESTAMPTZ,
    metadata JSONB
);

DROP VIEW stripe_charges;
CREATE TABLE stripe_charges (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    customer_id VARCHAR,
    status VARCHAR,
    amount BIGINT,
    amount_captured BIGINT,
    amount_refunded BIGINT,
    currency TEXT,
    captured BOOLEAN,
    paid BOOLEAN,
    refunded BOOLEAN,
    disputed BOOLEAN,
    failure_code TEXT,
    failure_message TEXT,
    description TEXT,
    invoice_id TEXT,
    payment_intent_id TEXT,
    payment_method_id TEXT,
    balance_transaction_id TEXT,
    dispute_id TEXT,
    receipt_email TEXT,
    receipt_number TEXT,
    receipt_url TEXT,
    statement_descriptor TEXT,
    outcome JSONB,
    billing_details JSONB,
    payment_method_details JSONB,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_payment_intents;
CREATE TABLE stripe_payment_intents (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    customer_id VARCHAR,
    status VARCHAR,
    amount BIGINT,
    amount_capturable BIGINT,
    amount_received BIGINT,
    currency TEXT,
    capture_method TEXT,
    confirmation_method TEXT,
    description TEXT,
    invoice_id TEXT,
    latest_charge_id TEXT,
    payment_method_id TEXT,
    setup_future_usage TEXT,
    receipt_email TEXT,
    statement_descriptor TEXT,
    cancellation_reason TEXT,
    canceled_at TIMESTAMPTZ,
    last_payment_error JSONB,
    next_action JSONB,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_refunds;
CREATE TABLE stripe_refunds (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    status VARCHAR,
    amount BIGINT,
    currency TEXT,
    charge_id TEXT,
    payment_intent_id TEXT,
    reason TEXT,
    failure_reason TEXT,
    balance_transaction_id TEXT,
    failure_balance_transaction_id TEXT,
    receipt_number TEXT,
    description TEXT,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_disputes;
CREATE TABLE stripe_disputes (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    status VARCHAR,
    amount BIGINT,
    currency TEXT,
    charge_id TEXT,
    payment_intent_id TEXT,
    reason TEXT,
    is_charge_refundable BOOLEAN,
    evidence_details_due_by TIMESTAMPTZ,
    evidence_details_has_evidence BOOLEAN,
    evidence_details_past_due BOOLEAN,
    evidence_details_submission_count BIGINT,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_payment_methods;
CREATE TABLE stripe_payment_methods (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    customer_id VARCHAR,
    type TEXT,
    allow_redisplay TEXT,
    billing_details JSONB,
    card_brand TEXT,
    card_last4 TEXT,
    card_exp_month BIGINT,
    card_exp_year BIGINT,
    card_country TEXT,
    card_funding TEXT,
    card_fingerprint TEXT,
    card JSONB,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_checkout_sessions;
CREATE TABLE stripe_checkout_sessions (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    customer_id VARCHAR,
    subscription_id VARCHAR,
    status VARCHAR,
    payment_status TEXT,
    mode TEXT,
    amount_subtotal BIGINT,
    amount_total BIGINT,
    currency TEXT,
    client_reference_id TEXT,
    customer_email TEXT,
    customer_details JSONB,
    payment_intent_id TEXT,
    setup_intent_id TEXT,
    invoice_id TEXT,
    payment_link_id TEXT,
    success_url TEXT,
    cancel_url TEXT,
    url TEXT,
    expires_at TIMESTAMPTZ,
    line_items_complete BOOLEAN NOT NULL,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_credit_notes;
CREATE TABLE stripe_credit_notes (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    customer_id VARCHAR,
    status VARCHAR,
    invoice_id TEXT,
    number TEXT,
    amount BIGINT,
    subtotal BIGINT,
    total BIGINT,
    currency TEXT,
    reason TEXT,
    type TEXT,
    memo TEXT,
    refund_id TEXT,
    customer_balance_transaction_id TEXT,
    out_of_band_amount BIGINT,
    pdf TEXT,
    effective_at TIMESTAMPTZ,
    voided_at TIMESTAMPTZ,
    lines_complete BOOLEAN NOT NULL,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_subscription_schedules;
CREATE TABLE stripe_subscription_schedules (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    customer_id VARCHAR,
    subscription_id VARCHAR,
    status VARCHAR,
    end_behavior TEXT,
    current_phase_start_date TIMESTAMPTZ,
    current_phase_end_date TIMESTAMPTZ,
    released_subscription_id TEXT,
    released_at TIMESTAMPTZ,
    canceled_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    default_settings JSONB,
    phases JSONB,
    test_clock_id TEXT,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_coupons;
CREATE TABLE stripe_coupons (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    name TEXT,
    percent_off NUMERIC,
    amount_off BIGINT,
    currency TEXT,
    duration TEXT,
    duration_in_months BIGINT,
    max_redemptions BIGINT,
    times_redeemed BIGINT,
    redeem_by TIMESTAMPTZ,
    valid BOOLEAN,
    applies_to JSONB,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_promotion_codes;
CREATE TABLE stripe_promotion_codes (
    id VARCHAR NOT NULL,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    deleted BOOLEAN NOT NULL,
    customer_id VARCHAR,
    code TEXT,
    active BOOLEAN,
    coupon_id TEXT,
    expires_at TIMESTAMPTZ,
    max_redemptions BIGINT,
    times_redeemed BIGINT,
    restrictions_first_time_transaction BOOLEAN,
    restrictions_minimum_amount BIGINT,
    restrictions_minimum_amount_currency TEXT,
    metadata JSONB,
    created TIMESTAMPTZ
);

DROP VIEW stripe_entitlements;
CREATE TABLE stripe_entitlements (
    id TEXT,
    account_id VARCHAR NOT NULL,
    livemode BOOLEAN NOT NULL,
    customer_id VARCHAR,
    feature_id TEXT,
    lookup_key TEXT,
    list_complete BOOLEAN NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
