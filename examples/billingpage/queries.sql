-- name: OpenInvoiceList :many
-- A customer's open invoices with the customer's e-mail address, the oldest first.
SELECT i.id, i.number, i.amount_due, i.currency, i.due_date, c.email
FROM stripe_invoices AS i
LEFT JOIN stripe_customers AS c ON c.account_id = i.account_id AND c.livemode = i.livemode AND c.id = i.customer_id
WHERE i.account_id = '' AND i.livemode = @livemode AND i.customer_id = @customer_id::text AND i.status = 'open' AND NOT i.deleted
ORDER BY i.created, i.id;

-- name: InvoiceLineList :many
-- The lines of an invoice with the names of their products.
SELECT l.description, l.amount, l.quantity, p.name AS product_name
FROM stripe_invoice_lines AS l
LEFT JOIN stripe_products AS p ON p.account_id = l.account_id AND p.livemode = l.livemode AND p.id = l.product_id
WHERE l.account_id = '' AND l.livemode = @livemode AND l.invoice_id = @invoice_id
ORDER BY l.position;
