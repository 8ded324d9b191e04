package tests

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pglocal"
)

var writeTutorial = flag.Bool("write-tutorial", false, "write the output of the tutorial's commands, and its table, into docs/is-your-handler-correct.md")

const (
	tutorialFile  = "../docs/is-your-handler-correct.md"
	tutorialStart = "<!-- results: written by make tutorial -->\n"
	tutorialEnd   = "<!-- end of results -->\n"
)

// tutorial is docs/is-your-handler-correct.md, and what differs when its commands run here: folders, ports, and that a command
// waits for the receiver that it starts.
type tutorial struct {
	document
	folder         string // of the programs, the truth and the log
	ordinary, ours string // the receivers' addresses
	api            string // the simulated API's address
	environment    []string
	substitutes    *strings.Replacer
}

func newTutorial(t *testing.T) *tutorial {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no Node.js")
		}
		t.Skip("there is no Node.js: make test installs it where it may")
	}
	binaries, err := pglocal.FindBinaries("") // of psql
	if err != nil {
		t.Fatal(err)
	}
	d := &tutorial{
		document: read(t, tutorialFile), folder: t.TempDir(),
		ordinary: freeAddress(t), ours: freeAddress(t), api: freeAddress(t),
		environment: environ("PATH="+binaries+":"+os.Getenv("PATH"), "GOFLAGS=-buildvcs=false", "GOWORK=off",
			"GOTOOLCHAIN=auto"), // the examples' module may need a newer Go than this one
	}
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	wait := func(address string) string {
		return ` 2>> "$LOG" &
for n in {1..600}; do curl -sf -o /dev/null http://` + address + `/tables && break; kill -0 $! || break; sleep 0.1; done
`
	}
	d.substitutes = strings.NewReplacer(
		"make postgres build", "make --no-print-directory BIN="+d.folder+" postgres build",
		"-o ../.bin/", "-o "+d.folder+"/",
		"truth.jsonl", d.folder+"/truth.jsonl",
		"127.0.0.1:3000", d.ordinary, "127.0.0.1:3001", d.ours, "127.0.0.1:12111", d.api,
		"node examples/correctness/ordinary.mjs &\n", "PORT="+port(d.ordinary)+" node examples/correctness/ordinary.mjs"+wait(d.ordinary),
		"node examples/correctness/ordinary.mjs --careful &\n", "PORT="+port(d.ordinary)+" node examples/correctness/ordinary.mjs --careful"+wait(d.ordinary),
		".bin/correctness &\n", "PORT="+port(d.ours)+" "+d.folder+"/correctness"+wait(d.ours),
		".bin/", d.folder+"/",
	)
	return d
}

// run runs commands of the tutorial with bash, as a reader would who goes on after a failure.
func (d *tutorial) run(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	log := filepath.Join(d.folder, "log")
	cmd := exec.CommandContext(ctx, "bash", "-c", "trap 'kill $(jobs -p); wait' EXIT\n"+d.substitutes.Replace(script))
	cmd.Dir, cmd.WaitDelay, cmd.Env = "..", time.Second, append(d.environment, "LOG="+log)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		t.Fatalf("the tutorial's commands did not end: %v\n%s\n%s", err, out, &stderr)
	}
	t.Cleanup(func() {
		if written, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("standard error of the tutorial's commands:\n%s\nthe receivers' log:\n%s", &stderr, written)
		}
	})
	return string(out)
}

// Every command of the tutorial works as written, one after the other, and its outcome is what the tutorial shows: rows of the
// ordinary receiver end wrong, and none of the one with stripeonce. The test changes only folders and ports.
func TestTutorial(t *testing.T) {
	d := newTutorial(t)
	const mark = "\n-- the next output --\n"
	var script strings.Builder
	var shown []string
	blocks := d.blocks()
	for i, b := range blocks {
		switch b.language {
		case "sh":
			text := b.text
			if strings.Contains(text, "psql") { // the reader's database is that of the last receiver here
				text = `DATABASE_URL=$(sed -n "s/.*psql '\(.*\)'/\1/p" "$LOG")` + "\n" + text
			}
			script.WriteString(text)
			if i+1 < len(blocks) && blocks[i+1].language == "" {
				fmt.Fprintf(&script, "echo '%s'\n", mark)
			}
		case "js":
			if !strings.Contains(flat(read(t, "../examples/correctness/ordinary.mjs").text), flat(b.text)) {
				t.Errorf("this is not in ordinary.mjs:\n%s", b.text)
			}
		case "":
			shown = append(shown, b.text)
		}
	}
	outputs := strings.Split(d.run(t, script.String()), mark)
	if len(outputs) != len(shown)+1 {
		t.Fatalf("%d outputs instead of %d: %q", len(outputs), len(shown)+1, outputs)
	}
	for i := range outputs {
		outputs[i] = readable(outputs[i])
	}
	text := d.text
	if *writeTutorial {
		for i, block := range shown {
			text = strings.Replace(text, "```\n"+block+"```\n", "```\n"+outputs[i]+"```\n", 1)
			shown[i] = outputs[i]
		}
		text = d.withTable(t, text)
		if err := os.WriteFile(tutorialFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	const (
		plan       = "A simulated Stripe (seed 1, storm default)\n  400 subscriptions, 4,577 events\n  to be delivered 8,081 times: "
		someRows   = `(?m)^400 subscriptions, [1-9]\d* rows wrong$`
		noRows     = `(?m)^400 subscriptions, 0 rows wrong$`
		twice      = `(?m)^865 payments, [1-9]\d* credited more than once, 0 missing$`
		lost       = `(?m)^865 payments, 0 credited more than once, [1-9]\d* missing$`
		allPaid    = `(?m)^865 payments, 0 credited more than once, 0 missing$`
		everyone   = `(?m)^  answered 200: 8,081 times, 500: [1-9]\d* times`
		noneDiffer = `\(0 rows\)`
	)
	plain := regexp.QuoteMeta(plan)
	for i, wanted := range [][]string{{plain, everyone}, {someRows, twice}, {plain, everyone, someRows, lost}, {plain, everyone, noRows, allPaid}, {noneDiffer}} {
		versions := []string{outputs[i]}
		if i < len(shown) {
			versions = append(versions, shown[i])
		}
		for _, version := range versions {
			for _, pattern := range wanted {
				if !regexp.MustCompile(pattern).MatchString(version) {
					t.Errorf("no %s in output %d of the tutorial:\n%s", pattern, i+1, version)
				}
			}
		}
	}
	for storm, row := range tableRows(text) {
		if !strings.HasSuffix(row, "| 0, 0, 0 |") {
			t.Errorf("the row of storm %s in the tutorial's table is %s", storm, row)
		}
	}
}

// readable removes what the tutorial does not show: what the receivers print when they start, and empty lines around the output.
func readable(output string) string {
	var kept []string
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "an ordinary receiver: ") {
			kept = append(kept, line)
		}
	}
	return strings.Trim(strings.Join(kept, ""), "\n") + "\n"
}

// withTable returns the text with a new table of every receiver under every storm.
func (d *tutorial) withTable(t *testing.T, text string) string {
	t.Helper()
	before, rest, found := strings.Cut(text, tutorialStart)
	_, after, ended := strings.Cut(rest, tutorialEnd)
	if !found || !ended {
		t.Fatalf("%s has no marks around its table", d.path)
	}
	var table strings.Builder
	table.WriteString("| storm | duplicates, out of order | `ordinary.mjs` | `--careful` | stripeonce without an API key | stripeonce |\n" + strings.Repeat("| --- ", 6) + "|\n")
	const prepare = "make postgres build\nexport STRIPE_WEBHOOK_SECRET=whsec_tutorial\ngo -C examples build -o ../.bin/ ./correctness\n"
	for _, storm := range []string{"mild", "default", "wild"} {
		var cells []string
		var disorder string
		for _, receiver := range []struct{ start, address string }{
			{"node examples/correctness/ordinary.mjs &", "127.0.0.1:3000"},
			{"node examples/correctness/ordinary.mjs --careful &", "127.0.0.1:3000"},
			{".bin/correctness &", "127.0.0.1:3001"},
			{"export STRIPE_API_KEY=sk_test_tutorial STRIPE_API_BASE=http://127.0.0.1:12111\n.bin/correctness &", "127.0.0.1:3001"},
		} {
			out := d.run(t, prepare+receiver.start+"\n.bin/stripeonce simulate --to http://"+receiver.address+"/webhooks/stripe --storm "+storm+
				" --truth truth.jsonl --api 127.0.0.1:12111\nnode examples/correctness/compare.mjs truth.jsonl http://"+receiver.address+"/tables\n")
			m := regexp.MustCompile(`(?s): (\d+% duplicates, \d+% out of order).* (\d+) rows wrong.* (\d+) credited more than once, (\d+) missing`).FindStringSubmatch(out)
			if m == nil {
				t.Fatalf("no numbers in %s", out)
			}
			disorder = strings.NewReplacer(" duplicates", "", " out of order", "").Replace(m[1])
			cells = append(cells, m[2]+", "+m[3]+", "+m[4])
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", storm, disorder, strings.Join(cells, " | "))
	}
	return before + tutorialStart + table.String() + tutorialEnd + after
}

// tableRows returns the rows of the tutorial's table by their storms.
func tableRows(text string) map[string]string {
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (mild|default|wild) \|.*$`).FindAllStringSubmatch(text, -1) {
		rows[m[1]] = m[0]
	}
	return rows
}
