-- name: AccountAdd :exec
INSERT INTO accounts (customer_id, paid_cents) VALUES ($1, $2)
ON CONFLICT (customer_id) DO UPDATE SET paid_cents = accounts.paid_cents + excluded.paid_cents;

-- name: AccountList :many
SELECT * FROM accounts ORDER BY customer_id;
