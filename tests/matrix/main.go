// Matrix runs the test suite on several versions of PostgreSQL, Go and pgx, with smaller samples (-short), and prints a table of
// the results.
//
//	go run ./tests/matrix                          PostgreSQL 13 to 18
//	go run ./tests/matrix 13,go1.25.4,race 18,pgx@latest    two rows
//	go run ./tests/matrix -packages ./webhooks 17
//
// A row is a major version of PostgreSQL, optionally followed by a Go toolchain, a version of pgx, and race for the race detector,
// separated by commas. The defaults are those of go.mod. PostgreSQL is downloaded once, see internal/pglocal; toolchains and modules come from
// GOPROXY.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/pook/stripeonce/internal/pglocal"
)

func main() {
	packages := flag.String("packages", "./...", "the packages to test")
	timeout := flag.String("timeout", "30m", "bounds the tests of one package")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, flag.Args(), *packages, *timeout, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errFailed = errors.New("a test failed")

func run(ctx context.Context, names []string, packages, timeout string, out io.Writer) error {
	if len(names) == 0 {
		names = pglocal.Versions()
	}
	var rows []*row
	for _, name := range names {
		r, err := parseRow(name)
		if err != nil {
			return err
		}
		rows = append(rows, r)
	}
	var failed error
	for _, r := range rows {
		err := r.test(ctx, packages, timeout, out)
		if err != nil && !errors.Is(err, errFailed) {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		failed = errors.Join(failed, err)
	}
	print(out, rows)
	return failed
}

// row is one combination of versions, and its results.
type row struct {
	name                     string
	postgres, toolchain, pgx string
	race                     bool
	results                  map[string]*result // by package
}

// result counts the tests of one package, including subtests.
type result struct {
	passed, failed, skipped int
	reasons                 map[string]bool // of skipped tests
}

func parseRow(name string) (*row, error) {
	r := &row{name: name, results: map[string]*result{}}
	for _, part := range strings.Split(name, ",") {
		switch {
		case strings.HasPrefix(part, "go"):
			r.toolchain = part
		case strings.HasPrefix(part, "pgx@"):
			r.pgx = strings.TrimPrefix(part, "pgx@")
		case part == "race":
			r.race = true
		default:
			r.postgres = part
		}
	}
	if r.postgres == "" {
		return nil, fmt.Errorf("%q names no version of PostgreSQL: use a row such as 18 or 13,go1.25.4,pgx@latest", name)
	}
	return r, nil
}

func (r *row) test(ctx context.Context, packages, timeout string, out io.Writer) error {
	bin, err := pglocal.Download(ctx, r.postgres, func(doing string) { fmt.Fprintln(out, "# "+doing) })
	if err != nil {
		return err
	}
	args := []string{"test", "-json", "-short", "-timeout", timeout}
	environ := append(os.Environ(), pglocal.EnvVersion+"="+r.postgres)
	if r.race {
		args = append(args, "-race")
	}
	if r.toolchain != "" {
		environ = append(environ, "GOTOOLCHAIN="+r.toolchain)
	}
	if r.pgx != "" {
		modfile, remove, err := r.withPgx(ctx, environ)
		if err != nil {
			return err
		}
		defer remove()
		args = append(args, "-modfile="+modfile)
	}
	fmt.Fprintf(out, "# %s: %s\n", r.name, bin)
	cmd := exec.CommandContext(ctx, "go", append(args, strings.Fields(packages)...)...)
	cmd.Env, cmd.Stderr = environ, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.read(events, out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w on %s: %w", errFailed, r.name, err)
	}
	return nil
}

// withPgx writes a go.mod with another version of pgx.
func (r *row) withPgx(ctx context.Context, environ []string) (modfile string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "matrix-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			remove()
			return "", nil, err
		}
	}
	modfile = filepath.Join(dir, "go.mod")
	get := exec.CommandContext(ctx, "go", "get", "-modfile="+modfile, "github.com/jackc/pgx/v5@"+r.pgx)
	get.Env = environ
	if text, err := get.CombinedOutput(); err != nil {
		remove()
		return "", nil, fmt.Errorf("%s: %w: %s", get, err, text)
	}
	return modfile, remove, nil
}

// event is a line of `go test -json`: https://pkg.go.dev/cmd/test2json.
type event struct {
	Action, Package, Test, Output string
}

// read counts results, and prints each package's last line and the output of failed tests.
func (r *row) read(events io.Reader, out io.Writer) {
	said := map[string][]string{} // by package and test
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // such as compiler errors
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			said[key] = append(said[key], e.Output)
		case "build-output":
			fmt.Fprintf(out, "%s", e.Output)
		case "pass", "fail", "skip":
			r.count(e, said[key], out)
			delete(said, key)
		}
	}
}

func (r *row) count(e event, said []string, out io.Writer) {
	if e.Test == "" {
		for _, line := range said {
			if e.Action == "fail" || strings.HasPrefix(line, "ok ") {
				fmt.Fprintf(out, "%s", line)
			}
		}
		return
	}
	in := r.results[e.Package]
	if in == nil {
		in = &result{reasons: map[string]bool{}}
		r.results[e.Package] = in
	}
	switch e.Action {
	case "pass":
		in.passed++
	case "skip":
		in.skipped++
		in.reasons[reason(said)] = true
	case "fail":
		in.failed++
		fmt.Fprintf(out, "%s", strings.Join(said, ""))
	}
}

// reason returns the reason of a skipped test from its output: "    file_test.go:12: reason".
func reason(said []string) string {
	for _, line := range said {
		if _, text, found := strings.Cut(line, "_test.go:"); found {
			_, text, _ = strings.Cut(text, ": ")
			return strings.TrimSpace(text)
		}
	}
	return "no reason given"
}

// print writes a Markdown table: a line for each package, a column for each row of the matrix.
func print(out io.Writer, rows []*row) {
	names := map[string]bool{}
	reasons := map[string]bool{}
	for _, r := range rows {
		for name, in := range r.results {
			names[name] = true
			for text := range in.reasons {
				reasons[text] = true
			}
		}
	}
	fmt.Fprintf(out, "\n| package: tests passed, failed, skipped |")
	for _, r := range rows {
		fmt.Fprintf(out, " %s |", r.name)
	}
	fmt.Fprintf(out, "\n| --- |%s\n", strings.Repeat(" --- |", len(rows)))
	for _, name := range sorted(names) {
		fmt.Fprintf(out, "| %s |", strings.TrimPrefix(name, "github.com/pook/stripeonce/"))
		for _, r := range rows {
			in := r.results[name]
			if in == nil {
				in = &result{}
			}
			fmt.Fprintf(out, " %d, %d, %d |", in.passed, in.failed, in.skipped)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out, "\nSkipped, since:")
	for _, text := range sorted(reasons) {
		fmt.Fprintln(out, "- "+text)
	}
}

func sorted(set map[string]bool) []string {
	var list []string
	for text := range set {
		list = append(list, text)
	}
	sort.Strings(list)
	return list
}
