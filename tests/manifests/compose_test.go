package manifests

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeFile = "../../deploy/compose.yaml"

func loadCompose(t *testing.T, file string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

// The compose file fits its schema, takes secrets from files, checks health, and gives serve the time to stop.
func TestCompose(t *testing.T) {
	t.Parallel()
	project, err := loadCompose(t, composeFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, service := range project.Services {
		for variable, value := range service.Environment {
			if secret := strings.Contains(variable, "SECRET") || strings.Contains(variable, "PASSWORD") || strings.Contains(variable, "URL"); secret &&
				(!strings.HasSuffix(variable, "_FILE") || !slices.ContainsFunc(service.Secrets, func(s types.ServiceSecretConfig) bool { return "/run/secrets/"+s.Source == *value })) {
				t.Errorf("%s sets %s to %q, which is no file of its secrets", name, variable, *value)
			}
		}
		if name == "postgres" {
			_, version, _ := strings.Cut(service.Image, ":")
			version, _, _ = strings.Cut(version, "-")
			if major, err := strconv.Atoi(version); err != nil || major < 13 || major > 18 {
				t.Errorf("PostgreSQL is %s, and the tests cover 13 to 18", service.Image)
			}
		} else if !service.ReadOnly || !slices.Contains(service.CapDrop, "ALL") {
			t.Errorf("%s is not confined", name)
		}
	}
	serve := project.Services["stripeonce"]
	if !slices.Equal(serve.HealthCheck.Test, []string{"CMD", "/stripeonce", "healthcheck"}) || !bytes.Contains(read(t, "../../deploy/Dockerfile"), []byte(`CMD ["/stripeonce", "healthcheck"]`)) {
		t.Errorf("the health check is %v", serve.HealthCheck.Test)
	}
	if grace := time.Duration(*serve.StopGracePeriod); grace < 25*time.Second {
		t.Errorf("serve has %v to stop, and deliveries in flight have 20 s", grace)
	}
}

// A misspelled or unknown member is found.
func TestComposeMutants(t *testing.T) {
	t.Parallel()
	text := read(t, composeFile)
	for from, to := range map[string]string{
		"stop_grace_period:": "stop_grace_periode:", "read_only: true": "read_only: perhaps", "secrets: [postgres-password]": "secrets: [postgres-pasword]",
		"condition: service_healthy": "condition: service_happy",
	} {
		changed := bytes.Replace(text, []byte(from), []byte(to), 1)
		file := t.TempDir() + "/compose.yaml"
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadCompose(t, file); err == nil || bytes.Equal(text, changed) {
			t.Errorf("%s is accepted", to)
		}
	}
}
