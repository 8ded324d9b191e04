package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// partitionsVariable is the environment variable with which the tests of a process run on partitioned tables: the number of partitions of
// the ledger and of the mirror in the template.
const partitionsVariable = "STRIPEONCE_TEST_PARTITIONS"

// Partitioned reports whether the tests run on partitioned tables.
func Partitioned() bool { return os.Getenv(partitionsVariable) != "" }

// partitionTemplate moves the template's empty tables into partitions, as users do, if the tests are to run on them.
func partitionTemplate(ctx context.Context, databaseURL string) error {
	if !Partitioned() {
		return nil
	}
	for _, table := range []string{"stripe_webhook_events", "stripe_objects"} {
		err := Recipe(ctx, databaseURL, nil,
			fmt.Sprintf(`CALL pg_temp.stripeonce_prepare('%s', %s)`, table, os.Getenv(partitionsVariable)),
			fmt.Sprintf(`CALL pg_temp.stripeonce_copy('%s')`, table),
			fmt.Sprintf(`CALL pg_temp.stripeonce_swap('%s')`, table),
			fmt.Sprintf(`CALL pg_temp.stripeonce_finish('%s')`, table))
		if err != nil {
			return err
		}
	}
	return nil
}

// Partition moves a table of a test's database into partitions.
func Partition(tb testing.TB, databaseURL, table string, partitions int) {
	tb.Helper()
	for _, call := range []string{
		fmt.Sprintf(`CALL pg_temp.stripeonce_prepare('%s', %d)`, table, partitions),
		fmt.Sprintf(`CALL pg_temp.stripeonce_copy('%s')`, table),
		fmt.Sprintf(`CALL pg_temp.stripeonce_swap('%s')`, table),
	} {
		if err := Recipe(tb.Context(), databaseURL, nil, call); err != nil {
			tb.Fatal(err)
		}
	}
}

// Recipe runs calls of deploy/partitions.sql, as psql does: the file first, and each call in the same session. said is called with each
// notice. Optional.
func Recipe(ctx context.Context, databaseURL string, said func(string), calls ...string) error {
	script, err := readScript("partitions.sql")
	if err != nil {
		return err
	}
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return err
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if said != nil && n.Severity == "NOTICE" {
			said(n.Message)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range append([]string{script}, calls...) {
		if err := conn.PgConn().Exec(ctx, sql).Close(); err != nil {
			return fmt.Errorf("%.80s: %w", sql, err)
		}
	}
	return nil
}

// readScript reads a file of deploy, from any folder of the repository.
func readScript(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "deploy", name))
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return string(text), err
		}
		dir = filepath.Dir(dir)
	}
}
