package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	docs         = "docs"
	document     = "performance.md"
	resultsBegin = "<!-- results: written by make bench -->\n"
	resultsEnd   = "<!-- end of results -->\n"
)

func (b *stand) report() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d rounds of each, %d deliveries in flight and as many connections of the pool, durable commits, %d CPUs,\n%s, %s. "+
		"Medians; the ratio is the median of the rounds' ratios.\n\n", *rounds, *connections, runtime.NumCPU(), runtime.Version(), time.Now().Format(time.DateOnly))
	table(&text, b.fresh, "new events", "in flight", byHand+", events/s", "stripeonce, events/s", "ratio", "in the rounds", "goal",
		"receiver's CPU, µs ("+goalCPU+")", "PostgreSQL's CPU, µs ("+goalServerCPU+")", "99th percentile, µs ("+goalP99+")")
	table(&text, b.duplicates, "duplicates in flight", byHand+", events/s", "stripeonce, events/s", "ratio", "in the rounds", "goal", "receiver's CPU, µs")
	fmt.Fprintf(&text, "| what | %s | %s | ratio | in the rounds | goal |\n| --- | --- | --- | --- | --- | --- |\n", byHand, ours)
	for _, r := range b.rows {
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %s |\n", r.what, r.hand, r.own, r.ratio, r.spread, r.goal)
	}
	return text.String()
}

func table(text *strings.Builder, lines [][]string, columns ...string) {
	line := func(cells []string) { fmt.Fprintf(text, "| %s |\n", strings.Join(cells, " | ")) }
	line(columns)
	line(slices.Repeat([]string{"---"}, len(columns)))
	for _, cells := range lines {
		line(cells)
	}
	text.WriteByte('\n')
}

// writeDocs writes the results between their marks in the document, and the plots next to it.
func (b *stand) writeDocs(text string) error {
	path := filepath.Join(docs, document)
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, found := strings.Cut(string(old), resultsBegin)
	_, tail, closed := strings.Cut(rest, resultsEnd)
	if !found || !closed {
		return fmt.Errorf("%s has no marks for the results", path)
	}
	var pictures strings.Builder
	for _, p := range b.plots {
		if err := os.WriteFile(filepath.Join(docs, p.file), []byte(p.svg()), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(&pictures, "\n![%s](%s)\n", p.title, p.file)
	}
	return os.WriteFile(path, []byte(head+resultsBegin+text+pictures.String()+resultsEnd+tail), 0o600)
}
