package tests

import (
	"os/exec"
	"strings"
	"testing"
)

// Whoever imports the library gets pgx and stripe-go's signatures, and no tool, client or router that it
// did not ask for.
func TestImportsOfTheLibrary(t *testing.T) {
	t.Parallel()
	allowed := []string{
		"github.com/pook/stripeonce/", "github.com/jackc/", "github.com/stripe/stripe-go/v79", "golang.org/x/",
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}",
		"../webhooks", "../subscriptions", "../schema", "../operations", "../console").Output()
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
