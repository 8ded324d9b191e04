// Package db has typed queries on stripeonce's tables. Except for this file, sqlc generates it from the migrations in schema
// and the queries in queries: run "make generate" after a change there, and do not edit it.
//
// # For hosts
//
// The packages webhooks, subscriptions and operations are the API of stripeonce. Use db only for a query that these do not
// have, with a pool, a connection or a transaction as the [DBTX]. Its names change with the tables.
package db
