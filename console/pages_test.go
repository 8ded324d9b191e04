package console

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/webhooks"
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

// A warning without a page that helps has no link.
func TestBannerWithoutLink(t *testing.T) {
	t.Parallel()
	data := &overviewData{Banners: ofProcess(&webhooks.Stats{UnrecordedFailures: 1}, time.Now())}
	var text bytes.Buffer
	if err := templates["overview"].Execute(&text, &page{Title: "Overview", Base: "/console", Now: time.Now(), Data: data}); err != nil {
		t.Fatal(err)
	}
	if page := text.String(); !strings.Contains(page, "1 failed event could not be recorded by this process") || strings.Contains(page, `class="button"`) {
		t.Errorf("it shows\n%s", page)
	}
}
