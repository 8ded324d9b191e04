package tests

import (
	"os/exec"
	"strings"
	"testing"
)

// Importing the library adds pgx, stripe-go's signatures and a cache without dependencies, but no tool, client or router.
func TestImportsOfTheLibrary(t *testing.T) {
	t.Parallel()
	allowed := []string{
		"github.com/pook/stripeonce/", "github.com/jackc/", "github.com/stripe/stripe-go/v79", "golang.org/x/", "github.com/hashicorp/golang-lru/v2",
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
