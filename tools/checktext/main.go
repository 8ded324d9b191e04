// Command checktext checks the texts of the project that people read: documents, help, comments, SQL and pages of the console. It
// reports the phrases of phrases.txt, lines of Markdown that are longer than 120 characters (but for tables, HTML and links), links
// to files and headings that do not exist, and pages of docs without a table of contents.
//
//	go -C tools run ./checktext
package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxLine is how many characters a line of Markdown may have.
const maxLine = 120

//go:embed phrases.txt
var phrases string

func main() {
	problems, err := check("..")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for _, problem := range problems {
		fmt.Println(problem)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

// check returns the problems of the files of a Git checkout.
func check(root string) (problems []string, err error) {
	out, err := exec.Command("git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "*.go", "*.md", "*.sql", "*.html", "*.yml", "Makefile").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	unwanted := compile(phrases)
	for _, name := range strings.Fields(string(out)) {
		if strings.HasPrefix(name, "db/") || strings.HasPrefix(name, "tools/checktext/") {
			continue // generated, and the phrases themselves
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return nil, err
		}
		problems = append(problems, wording(name, string(text), unwanted)...)
		if strings.HasSuffix(name, ".md") {
			problems = append(problems, longLines(name, string(text))...)
			problems = append(problems, brokenLinks(root, name, string(text))...)
			problems = append(problems, contents(name, string(text))...)
		}
	}
	return problems, nil
}

// phrase is an expression that readers stumble over.
type phrase struct {
	found   *regexp.Regexp
	instead string
}

func compile(list string) (all []phrase) {
	for line := range strings.Lines(list) {
		text, instead, found := strings.Cut(strings.TrimSpace(line), " = ")
		if found && !strings.HasPrefix(text, "#") {
			all = append(all, phrase{regexp.MustCompile(`(?i)\b` + strings.ReplaceAll(regexp.QuoteMeta(text), " ", `\s+`) + `\b`), instead})
		}
	}
	return all
}

// wording reports phrases outside of inline code.
func wording(name, text string, unwanted []phrase) (problems []string) {
	if strings.HasSuffix(name, ".md") {
		text = code.ReplaceAllStringFunc(text, func(code string) string { return strings.Map(blank, code) })
	}
	for _, p := range unwanted {
		for _, at := range p.found.FindAllStringIndex(text, -1) {
			problems = append(problems, fmt.Sprintf("%s:%d: %q: write %s", name, 1+strings.Count(text[:at[0]], "\n"), text[at[0]:at[1]], p.instead))
		}
	}
	return problems
}

var linked = regexp.MustCompile(`^<|https?://|\]\(`)

// blank replaces everything but the ends of lines.
func blank(r rune) rune {
	if r == '\n' {
		return r
	}
	return '.'
}

func longLines(name, text string) (problems []string) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > maxLine && !strings.HasPrefix(line, "|") && !linked.MatchString(line) {
			problems = append(problems, fmt.Sprintf("%s:%d: %d characters: break the line at %d", name, number, n, maxLine))
		}
	}
	return problems
}

type numbered struct {
	number int
	text   string
}

// prose yields the lines outside of code blocks.
func prose(text string) func(yield func(numbered) bool) {
	return func(yield func(numbered) bool) {
		lines := bufio.NewScanner(strings.NewReader(text))
		lines.Buffer(nil, 1<<20)
		inCode := false
		for number := 1; lines.Scan(); number++ {
			switch fence := strings.HasPrefix(strings.TrimSpace(lines.Text()), "```"); {
			case fence:
				inCode = !inCode
			case !inCode && !yield(numbered{number, lines.Text()}):
				return
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)#:\s]*)(?:#([^)\s]*))?\)`)
	code    = regexp.MustCompile("`[^`]*`")
	dropped = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)
)

func brokenLinks(root, name, text string) (problems []string) {
	for line := range prose(text) {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(line.text, ""), -1) {
			target, anchor := name, match[2]
			if match[1] != "" {
				target = filepath.Join(filepath.Dir(name), match[1])
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				problems = append(problems, fmt.Sprintf("%s:%d: there is no %s", name, line.number, target))
				continue
			}
			if anchor != "" && strings.HasSuffix(target, ".md") && !slices.Contains(anchors(filepath.Join(root, target)), anchor) {
				problems = append(problems, fmt.Sprintf("%s:%d: %s has no heading #%s", name, line.number, target, anchor))
			}
		}
	}
	return problems
}

// contents reports the sections of a page of docs that nothing before the first of them links to: each page begins with a table of contents.
func contents(name, text string) (problems []string) {
	before, _, found := strings.Cut(text, "\n## ")
	if !found || !strings.HasPrefix(name, "docs/") || name == "docs/README.md" {
		return nil
	}
	for _, anchor := range headings(text, 2) {
		if !strings.Contains(before, "](#"+anchor+")") {
			problems = append(problems, fmt.Sprintf("%s: the table of contents lacks #%s", name, anchor))
		}
	}
	return problems
}

// anchors returns the anchors of a document's headings, as GitHub makes them.
func anchors(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return headings(string(text), 0)
}

// headings returns the anchors of the headings of a level, or of all.
func headings(text string, level int) (all []string) {
	for line := range prose(text) {
		depth := len(line.text) - len(strings.TrimLeft(line.text, "#"))
		if heading, found := strings.CutPrefix(line.text[depth:], " "); found && depth > 0 && (level == 0 || depth == level) {
			anchor := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
			for n := 1; slices.Contains(all, anchor); n++ {
				anchor = fmt.Sprintf("%s-%d", strings.TrimSuffix(anchor, fmt.Sprintf("-%d", n-1)), n)
			}
			all = append(all, anchor)
		}
	}
	return all
}
