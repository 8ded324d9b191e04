// Package migrate creates and updates stripeonce's tables: it applies the migrations of package schema with dbmate. It is a package of
// its own so that a receiver does not import dbmate.
//
//	err := migrate.Up(ctx, databaseURL, os.Stderr)
//
// # Existing databases
//
// Before its first statement, [Up] looks for tables, views, indexes, sequences and types of the same names that are not
// stripeonce's, and returns [ErrNameTaken] if there are any: nothing has been changed then. [Adopt] records the migrations of tables
// that exist already.
//
// # Several processes
//
// Any number of processes may call Up at the same time, as replicas do when they start: one applies, the others wait.
package migrate
