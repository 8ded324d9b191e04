package migrate_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema/migrate"
)

// An application applies stripeonce's migrations when it starts, beside its own. Any number of replicas may do so at once.
func ExampleUp() {
	databaseURL := pgtest.ExampleURL() // your own

	ctx := context.Background()
	if err := migrate.Up(ctx, databaseURL, io.Discard); err != nil {
		log.Fatal(err)
	}
	migrations, err := migrate.List(ctx, databaseURL)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range migrations {
		fmt.Println(m.Version, m.Applied)
	}
	// Output:
	// 20261126000001 true
	// 20261126000002 true
	// 20261126000003 true
	// 20261126000004 true
	// 20261126000005 true
	// 20261126000006 true
	// 20261126000007 true
	// 20261126000008 true
	// 20261126000009 true
	// 20261126000010 true
	// 20261126000011 true
}
