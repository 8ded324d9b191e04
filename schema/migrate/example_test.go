package migrate_test

import (
	"context"
	"log"
	"os"

	"github.com/pook/stripeonce/schema/migrate"
)

// An application applies stripeonce's migrations when it starts, beside its own. Any number of replicas may.
func ExampleUp() {
	if err := migrate.Up(context.Background(), os.Getenv("DATABASE_URL"), os.Stderr); err != nil {
		log.Fatal(err)
	}
}
