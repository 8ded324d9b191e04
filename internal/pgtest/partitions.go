package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// partitionsVariable is the environment variable with which the tests of a process run on partitioned tables: the number of partitions of
// the ledger and of the mirror in the template.
const partitionsVariable = "STRIPEONCE_TEST_PARTITIONS"

// Partitioned reports whether the tests run on partitioned tables.
func Partitioned() bool { return os.Getenv(partitionsVariable) != "" }

var (
	partitionOfTable = regexp.MustCompile(`\b(stripe_webhook_events|stripe_objects)_p\d\d\b`)
	partitionOfIndex = regexp.MustCompile(`\b(stripe_(?:webhook_events|objects)_\w+)_p\d\d\b`)
)

// OfWhole replaces the names of partitions, and of their indexes, in a plan by those of the whole.
func OfWhole(plan string) string {
	return partitionOfIndex.ReplaceAllString(partitionOfTable.ReplaceAllString(plan, "$1"), "$1")
}

// ReadAhead is how many rows a query may read more where the tests run on partitioned tables: a merge has read the next row of each
// partition, each of the steps of a walk does, and a sort by time and id reads the rows of one more time.
func ReadAhead() float64 {
	if !Partitioned() {
		return 0
	}
	n, err := strconv.Atoi(os.Getenv(partitionsVariable))
	if err != nil {
		panic(partitionsVariable + " is no number: " + err.Error())
	}
	return float64(100 * n)
}

// OnPlainTables skips a test that needs plain tables where the tests run on partitioned ones.
func OnPlainTables(tb testing.TB, reason string) {
	tb.Helper()
	if Partitioned() {
		tb.Skip("the tables are partitioned: " + reason)
	}
}

// partitionTemplate moves the template's empty tables into partitions, as users do, if the tests are to run on them.
func partitionTemplate(ctx context.Context, databaseURL string) error {
	if !Partitioned() {
		return nil
	}
	for _, table := range []string{"stripe_webhook_events", "stripe_objects"} {
		_, err := Recipe(ctx, databaseURL, nil,
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
		if _, err := Recipe(tb.Context(), databaseURL, nil, call); err != nil {
			tb.Fatal(err)
		}
	}
}

// Recipe runs calls of deploy/partitions.sql, as psql does: the file first, and each call in the same session. It returns the value that
// the last one returns, if any. said is called with each notice. Optional.
func Recipe(ctx context.Context, databaseURL string, said func(string), calls ...string) (value string, err error) {
	script, err := readScript("partitions.sql")
	if err != nil {
		return "", err
	}
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return "", err
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if said != nil && n.Severity == "NOTICE" {
			said(n.Message)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range append([]string{script}, calls...) {
		results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		if err != nil {
			return "", fmt.Errorf("%.80s: %w", sql, err)
		}
		if last := results[len(results)-1].Rows; len(last) > 0 {
			value = string(last[0][0])
		}
	}
	return value, nil
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
