// Package schema holds the migrations of stripeonce's tables: plain SQL files in dbmate's format, which sqlc reads, too. Use
// package schema/migrate to apply them.
//
// # Applying the migrations
//
// schema/migrate.Up applies them from Go, "stripeonce migrate" from a shell, and dbmate's own program with
//
//	dbmate --migrations-table stripeonce_migrations --migrations-dir schema up
//
// Another tool can read the files from [FS]; then set webhooks.Config.AssumeMigrated.
//
// # Where the tables go
//
// No file names a PostgreSQL schema: search_path decides.
package schema
