package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pgtest"
)

// document is a page of the project, and its text.
type document struct{ path, text string }

func read(t *testing.T, path string) document {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return document{path, string(text)}
}

// documents returns README.md and the pages of docs.
func documents(t *testing.T) (all []document) {
	t.Helper()
	paths, _ := filepath.Glob("../docs/*.md")
	for _, path := range append(paths, "../README.md") {
		all = append(all, read(t, path))
	}
	return all
}

// block is one fenced block of a document.
type block struct{ document, language, text string }

var fence = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```$")

func (d document) blocks() (blocks []block) {
	for _, m := range fence.FindAllStringSubmatch(d.text, -1) {
		blocks = append(blocks, block{d.path, m[1], m[2]})
	}
	return blocks
}

// blocksIn returns the documents' code blocks in a language. There must be at least one.
func blocksIn(t *testing.T, language string) (blocks []block) {
	t.Helper()
	for _, d := range documents(t) {
		for _, b := range d.blocks() {
			if b.language == language {
				blocks = append(blocks, b)
			}
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("the documents show no block in %q", language)
	}
	return blocks
}

// flat returns code without indentation and empty lines.
func flat(code string) string {
	var lines []string
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// Every Go block in the documents occurs, word for word, in code that is compiled.
func TestCodeInDocuments(t *testing.T) {
	t.Parallel()
	var compiled strings.Builder
	err := filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			text, err := os.ReadFile(path)
			compiled.WriteString(flat(string(text)) + "\n")
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocksIn(t, "go") {
		if !strings.Contains(compiled.String(), flat(b.text)) {
			t.Errorf("%s: this is in no Go file:\n%s", b.document, b.text)
		}
	}
}

// Each direct dependency is listed with its reason, and no other.
func TestDependenciesAreListed(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(read(t, "../docs/security.md").text, "## Dependencies")
	named := map[string]bool{}
	for _, match := range regexp.MustCompile("`([a-z]+\\.[^` ]+/[^` ]+)`").FindAllStringSubmatch(table, -1) {
		named[match[1]] = true
	}
	direct, _, _ := strings.Cut(read(t, "../go.mod").text, ")")
	for _, match := range regexp.MustCompile(`\t(\S+) v`).FindAllStringSubmatch(direct, -1) {
		if !named[match[1]] {
			t.Errorf("docs/security.md does not say what %s is for", match[1])
		}
		delete(named, match[1])
	}
	for module := range named {
		t.Errorf("docs/security.md names %s, which is no direct dependency", module)
	}
}

// settings matches a command with optional variables, a folder, or go tool before it.
var settings = regexp.MustCompile(`^(?:[A-Z_]+=\S+ |\.bin/|go tool )*stripeonce ([a-z]+)(.*)$`)

// Every command in the documents exists and accepts the flags.
func TestCommandsInDocuments(t *testing.T) {
	t.Parallel()
	flag := regexp.MustCompile(`\s(--[a-z-]+)`)
	help := map[string]string{}
	commands := 0
	for _, d := range documents(t) {
		for _, line := range append(strings.Split(d.text, "\n"), inline.FindAllString(d.text, -1)...) {
			m := settings.FindStringSubmatch(strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(line, "`"), "`")))
			if m == nil || strings.Contains(m[0], "`") {
				continue
			}
			commands++
			if help[m[1]] == "" {
				out := run(t, environ(), "", m[1], "--help")
				help[m[1]] = out.stdout + out.stderr
			}
			if !strings.Contains(help[m[1]], "stripeonce "+m[1]) {
				t.Errorf("%s: there is no command %s: %s", d.path, m[1], line)
			}
			rest, _, _ := strings.Cut(m[2], "#")
			for _, f := range flag.FindAllStringSubmatch(rest, -1) {
				if !strings.Contains(help[m[1]], f[1]) {
					t.Errorf("%s: %s does not take %s: %s", d.path, m[1], f[1], line)
				}
			}
		}
	}
	if commands < 20 {
		t.Errorf("the documents show %d commands", commands)
	}
}

var inline = regexp.MustCompile("`[^`\n]*stripeonce [^`\n]*`")

// Every make target in the documents exists.
func TestTargetsInDocuments(t *testing.T) {
	t.Parallel()
	makefile := read(t, "../Makefile").text
	for _, d := range documents(t) {
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z]+)").FindAllStringSubmatch(d.text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s names make %s", d.path, m[1])
			}
		}
	}
}

// Every SQL block in the documents runs on stripeonce's tables.
func TestSQLInDocuments(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, "CREATE TABLE handled_events (id text, type text, created timestamptz, livemode boolean)") // a reader's own table
	for _, b := range blocksIn(t, "sql") {
		if _, err := pool.Exec(t.Context(), b.text); err != nil {
			t.Errorf("%s: %v\n%s", b.document, err, b.text)
		}
	}
}

// Every database URL in the documents is accepted by the pool.
func TestAddressesInDocuments(t *testing.T) {
	t.Parallel()
	setting := regexp.MustCompile(`DATABASE_URL=(postgres://[^\s'"…]+)(?:\s|$)`)
	var found []string
	for _, language := range []string{"", "sh"} {
		for _, b := range blocksIn(t, language) {
			for _, m := range setting.FindAllStringSubmatch(b.text, -1) {
				found = append(found, m[1])
			}
		}
	}
	if !slices.Contains(found, quickstartDatabase) {
		t.Errorf("the documents show %q, without the quickstart's", found)
	}
	for _, address := range found {
		if _, err := pgxpool.ParseConfig(address); err != nil {
			t.Error(err)
		}
	}
}

// Every text that the first column of docs/troubleshooting.md quotes occurs in the code, so that a reader who searches for a message
// finds it. "…" stands for what differs.
func TestTroubleshootingQuotesTheCode(t *testing.T) {
	t.Parallel()
	joined := regexp.MustCompile("[\"`] ?\\+\\s*[\"`]")
	verb := regexp.MustCompile(`%[.\d]*[a-zA-Z]`)
	var code strings.Builder
	for _, dir := range []string{"webhooks", "internal", "subscriptions", "mirror", "operations", "commands", "schema", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, _ os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				text, err := os.ReadFile(path)
				code.WriteString(verb.ReplaceAllString(joined.ReplaceAllString(string(text), ""), "…"))
				return err
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	notOurs := []string{"ignored", "duplicate", "processed", "verify", "items_complete", "lists_complete", "event.json"} // words, not messages
	quotes := 0
	for line := range strings.Lines(read(t, "../docs/troubleshooting.md").text) {
		symptom, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(symptom, "--") {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(symptom, -1) {
			if slices.Contains(notOurs, m[1]) || strings.Contains(m[1], "violates ") || strings.HasPrefix(m[1], "duplicate key") { // PostgreSQL's
				continue
			}
			quotes++
			for _, part := range strings.Split(m[1], "…") {
				if !strings.Contains(code.String(), part) {
					t.Errorf("no code says %q", part)
				}
			}
		}
	}
	if quotes < 50 {
		t.Errorf("it quotes %d messages", quotes)
	}
}

// The first screen fits: README.md has at most 120 lines, each of at most 120 characters but for links in tables and badges.
func TestREADMEIsShort(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSpace(read(t, "../README.md").text), "\n")
	if len(lines) > 120 {
		t.Errorf("README.md has %d lines", len(lines))
	}
	for i, line := range lines {
		if utf8.RuneCountInString(line) > 120 && !strings.HasPrefix(line, "[![") {
			t.Errorf("README.md:%d has %d characters", i+1, utf8.RuneCountInString(line))
		}
	}
}

// A reader who searches for one of these words finds a heading about it, or a page's title.
func TestWordsLeadToAnAnswer(t *testing.T) {
	t.Parallel()
	var headings strings.Builder
	for _, d := range documents(t) {
		for line := range strings.Lines(d.text) {
			if strings.HasPrefix(line, "#") {
				headings.WriteString(strings.ToLower(line))
			}
		}
	}
	for _, word := range []string{
		"idempotency", "idempotent", "deduplication", "out of order", "exactly once", "replay", "retries", "backfill", "upsert", "dead letter", "outbox",
		"multi-tenant", "thin events", "entitlements", "sandbox", "rate limit", "gdpr", "supabase", "pgbouncer", "troubleshooting", "faq",
	} {
		if !strings.Contains(headings.String(), word) {
			t.Errorf("no heading has %q", word)
		}
	}
}

// llms.txt names every page, and nothing else.
func TestLLMsText(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, m := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(read(t, "../llms.txt").text, -1) {
		named[m[1]] = true
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Error(err)
		}
	}
	for _, d := range documents(t) {
		if page, _ := filepath.Rel("..", d.path); !named[page] && page != "docs/README.md" {
			t.Errorf("llms.txt lacks %s", page)
		}
	}
}
