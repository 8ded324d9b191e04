// Package migrate applies the migrations of package schema with dbmate, like "dbmate up" at the repository's root. It is a
// separate package so that a receiver does not import dbmate.
//
//	err := migrate.Up(ctx, databaseURL, os.Stderr)
//
// # Existing databases
//
// Before its first statement, [Up] looks for tables, views, indexes, sequences and types of the same names that are not
// stripeonce's, and returns [ErrNameTaken] if there are any: nothing is half done. [Adopt] records the migrations of tables
// that exist already.
//
// # Several processes
//
// Any number of processes may call Up at the same time, as replicas do when they start: one applies, the others wait.
package migrate
