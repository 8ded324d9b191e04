package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// flat is code without its indentation and empty lines.
func flat(code string) string {
	var lines []string
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// Every block of Go in the documents stands, word for word, in code that is compiled.
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
	documents, _ := filepath.Glob("../docs/*.md")
	blocks := 0
	for _, document := range append(documents, "../README.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range goBlock.FindAllStringSubmatch(string(text), -1) {
			blocks++
			if !strings.Contains(compiled.String(), flat(match[1])) {
				t.Errorf("%s: this is in no Go file:\n%s", document, match[1])
			}
		}
	}
	if blocks == 0 {
		t.Error("the documents show no code")
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// Links between the documents lead somewhere.
func TestLinksInDocuments(t *testing.T) {
	t.Parallel()
	documents, _ := filepath.Glob("../docs/*.md")
	for _, document := range append(documents, "../README.md", "../CHANGELOG.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(document), match[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", document, match[1])
			}
		}
	}
}

// Each dependency is listed with its reason, and none that is not there.
func TestDependenciesAreListed(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Dependencies")
	named := map[string]bool{}
	for _, match := range regexp.MustCompile("`([a-z]+\\.[^` ]+/[^` ]+)`").FindAllStringSubmatch(table, -1) {
		named[match[1]] = true
	}
	direct, _, _ := strings.Cut(string(mod), ")")
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

// settings are what may stand before a command: variables, a folder, Go's own way to a tool.
var settings = regexp.MustCompile(`^(?:[A-Z_]+=\S+ |\.bin/|go tool )*stripeonce ([a-z]+)(.*)$`)

// Every command that the documents show is one that the program has, with flags that it takes.
func TestCommandsInDocuments(t *testing.T) {
	t.Parallel()
	documents, _ := filepath.Glob("../docs/*.md")
	flag := regexp.MustCompile(`\s(--[a-z-]+)`)
	help := map[string]string{}
	commands := 0
	for _, document := range append(documents, "../README.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range append(strings.Split(string(text), "\n"), inline.FindAllString(string(text), -1)...) {
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
				t.Errorf("%s: there is no command %s: %s", document, m[1], line)
			}
			rest, _, _ := strings.Cut(m[2], "#")
			for _, f := range flag.FindAllStringSubmatch(rest, -1) {
				if !strings.Contains(help[m[1]], f[1]) {
					t.Errorf("%s: %s does not take %s: %s", document, m[1], f[1], line)
				}
			}
		}
	}
	if commands < 20 {
		t.Errorf("the documents show %d commands", commands)
	}
}

var inline = regexp.MustCompile("`[^`\n]*stripeonce [^`\n]*`")

// Every target of make that the documents name is there.
func TestTargetsInDocuments(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	documents, _ := filepath.Glob("../docs/*.md")
	for _, document := range append(documents, "../README.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z]+)").FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s names make %s", document, m[1])
			}
		}
	}
}
