// Package torture injects faults into stripeonce while a simulated Stripe delivers, and checks the tables with the judge. All
// parts are real: PostgreSQL, whose processes are killed, receivers as processes, HTTP, and network connections, which are
// cut.
//
// A short form of each fault runs with the other tests. `make torture` runs all of them for minutes, and prints the table
// of docs/reliability.md.
package torture

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	long = flag.Bool("long", false, "run the complete suite, for minutes, instead of its short form")
	soak = flag.Duration("soak", 3*time.Minute, "with -long: the duration of the soak")

	clusterRounds = flag.Int("cluster-rounds", 2, "with -long: how often each fault strikes the leader of a cluster")

	report = flag.String("report", "", "write the table of results into this Markdown `file`, between its markers")
)

// waitLimit bounds every wait for another process. It does not assert speed.
const waitLimit = 2 * time.Minute

func TestMain(m *testing.M) {
	if kind := os.Getenv(envReceiver); kind != "" {
		if err := runReceiver(kind); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	code := m.Run()
	if code != 0 {
		*report = "" // it would lack the failed tests
	}
	if err := printRows(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// times returns how often a fault is repeated: short in the short form, and many in the long one.
func times(short, many int) int {
	if *long {
		return many
	}
	return short
}

// onlyLong skips a test that takes too long, or needs programs that not every machine has.
func onlyLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("runs with make torture")
	}
}

// row is a row of the table in docs/reliability.md.
type row struct{ order, fault, done, result string }

var rows struct {
	sync.Mutex
	list []row
}

// addRow adds a row to the table, if the test has passed.
func addRow(t *testing.T, order, fault, done, result string, args ...any) {
	t.Helper()
	if t.Failed() {
		return
	}
	rows.Lock()
	defer rows.Unlock()
	rows.list = append(rows.list, row{order, fault, done, fmt.Sprintf(result, args...)})
}

const beginMark, endMark = "<!-- make torture: begin -->\n", "<!-- make torture: end -->"

func printRows() error {
	if len(rows.list) == 0 {
		return nil
	}
	slices.SortFunc(rows.list, func(a, b row) int { return strings.Compare(a.order, b.order) })
	var table strings.Builder
	table.WriteString("| fault | what was done | result |\n| --- | --- | --- |\n")
	for _, r := range rows.list {
		fmt.Fprintf(&table, "| %s | %s | %s |\n", r.fault, r.done, r.result)
	}
	if *report == "" {
		if *long {
			fmt.Print(table.String())
		}
		return nil
	}
	text, err := os.ReadFile(*report)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !found || !ended {
		return fmt.Errorf("%s lacks the lines %q and %q", *report, beginMark, endMark)
	}
	return os.WriteFile(*report, []byte(before+beginMark+table.String()+endMark+after), 0o644)
}
