// Command eventtypes writes the list of Stripe's event types that the newest stripe-go knows, sorted, one a line. Types about
// v1 resources that are delivered only as thin events begin with "v1.". It is a tool: the library does not import this
// stripe-go.
//
//	go -C tools run ./eventtypes > internal/eventtypes/event_types.txt
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	_ "github.com/stripe/stripe-go/v86" // whose source is read
)

const module = "github.com/stripe/stripe-go/v86"

var (
	snapshotType = regexp.MustCompile(`EventType = "([a-z0-9_.]+)"`)
	thinType     = regexp.MustCompile(`"(v1\.[a-z0-9_.]+)"`)
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "eventtypes:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("go list -m %s: %w", module, err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil {
		return err
	}
	var types, thin []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if filepath.Base(file) == "event.go" {
			types = append(types, matches(snapshotType, source)...)
		}
		thin = append(thin, matches(thinType, source)...)
	}
	if len(types) < 200 {
		return fmt.Errorf("only %d types are found in %s: has its event.go changed?", len(types), module)
	}
	for _, one := range thin {
		if !slices.Contains(types, strings.TrimPrefix(one, "v1.")) {
			types = append(types, one)
		}
	}
	slices.Sort(types)
	_, err = fmt.Println(strings.Join(slices.Compact(types), "\n"))
	return err
}

// matches returns the first group of every match that is an event type and not its v2 form.
func matches(pattern *regexp.Regexp, source []byte) (list []string) {
	for _, match := range pattern.FindAllSubmatch(source, -1) {
		if one := string(match[1]); strings.Contains(one, ".") && !strings.HasPrefix(one, "v2.") {
			list = append(list, one)
		}
	}
	return list
}
