package tests

import (
	"os/exec"
	"strings"
	"testing"
)

// Whoever imports the library gets pgx, stripe-go's signatures and Echo, and no tool or client that it
// did not ask for.
func TestImportsOfTheLibrary(t *testing.T) {
	t.Parallel()
	allowed := []string{
		"github.com/pook/stripeonce/", "github.com/jackc/", "github.com/stripe/stripe-go/v79", "github.com/labstack/",
		"golang.org/x/", "github.com/mattn/", "github.com/valyala/", // the last two are Echo's
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}",
		"../webhooks", "../subscriptions", "../schema").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		fits := false
		for _, prefix := range allowed {
			fits = fits || strings.HasPrefix(path+"/", prefix)
		}
		if !fits {
			t.Errorf("the library imports %s", path)
		}
	}
}
