package main

import (
	"context"
	"log"
	"os"
	"testing"

	"github.com/pook/stripeonce/internal/pglocal"
)

// TestMain gives the tests of this repository a private server. An application has its own server at DATABASE_URL: leave
// this file out.
func TestMain(m *testing.M) {
	cluster, err := pglocal.Start(context.Background(), pglocal.Config{Disposable: true})
	if err != nil {
		log.Fatal(err)
	}
	_ = os.Setenv("DATABASE_URL", cluster.URL("postgres"))
	code := m.Run()
	_ = cluster.Stop()
	os.Exit(code)
}
