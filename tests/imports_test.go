package tests

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Importing the library adds pgx, stripe-go's signatures and a cache without dependencies, but no tool, client or router.
func TestImportsOfTheLibrary(t *testing.T) {
	t.Parallel()
	allowed := []string{
		"github.com/pook/stripeonce/", "github.com/jackc/", "github.com/stripe/stripe-go/v79", "golang.org/x/", "github.com/hashicorp/golang-lru/v2",
	}
	for _, path := range imports(t, "../webhooks", "../subscriptions", "../mirror", "../entitlements", "../schema", "../operations", "../console") {
		if !hasPrefix(path, allowed) {
			t.Errorf("the library imports %s", path)
		}
	}
}

// OpenTelemetry is compiled by those alone who import otelwebhooks, and then its API without SDK and exporters.
func TestImportsOfOpenTelemetry(t *testing.T) {
	t.Parallel()
	for _, path := range imports(t, "../commands", "../metrics", "../schema/migrate", "../webhooks/echov4", "../webhooks/echov5", "../webhooks/webhookstest") {
		if strings.HasPrefix(path, "go.opentelemetry.io/") {
			t.Errorf("a package that does not trace imports %s", path)
		}
	}
	found := false
	for _, path := range imports(t, "../webhooks/otelwebhooks") {
		found = found || path == "go.opentelemetry.io/otel/trace"
		if hasPrefix(path, []string{"go.opentelemetry.io/otel/sdk/", "go.opentelemetry.io/otel/exporters/", "go.opentelemetry.io/contrib/", "google.golang.org/"}) {
			t.Errorf("otelwebhooks imports %s", path)
		}
	}
	if !found {
		t.Error("otelwebhooks does not import OpenTelemetry's API")
	}
}

// imports returns what packages import, directly or not, outside of the standard library.
func imports(t *testing.T, packages ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}, packages...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func hasPrefix(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(path+"/", prefix) })
}
