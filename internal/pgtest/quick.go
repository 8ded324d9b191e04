package pgtest

import "testing"

// Quick reports whether a test takes a sample of what it otherwise takes all of: under the race detector, and with -short, as on the
// other versions of PostgreSQL.
func Quick() bool { return Race || testing.Short() }
