package console

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// testdata/pages.txt lists the patterns of all pages. The test in a browser (tests/browser) visits each of them with axe.
func TestPagesAreListed(t *testing.T) {
	t.Parallel()
	const list = "testdata/pages.txt"
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(maps.Keys(new(Console).pages()))
	if got := strings.Fields(string(text)); !slices.Equal(got, want) {
		t.Errorf("%s has the pages\n%s\nand the console has\n%s", list, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
