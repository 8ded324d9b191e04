// Package manifests checks the files with which stripeonce is deployed against the schemas of Kubernetes, of the Prometheus operator and of
// Compose. It is a module of its own, since those schemas come with many packages.
package manifests

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	folder = "../../deploy/kubernetes"
	rule   = folder + "/monitoring/prometheusrule.yaml"
)

var writeRule = flag.Bool("write", false, "write "+rule+" from alerts.yml")

// files returns the paths of the manifests, without the kustomizations.
func files(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"/*.yaml", "/monitoring/*.yaml"} {
		found, err := filepath.Glob(folder + pattern)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	list = slices.DeleteFunc(list, func(path string) bool { return filepath.Base(path) == "kustomization.yaml" })
	if len(list) < 6 {
		t.Fatalf("the manifests are %v", list)
	}
	return list
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Every manifest fits the schema, and the kustomization of its folder has it.
func TestManifests(t *testing.T) {
	t.Parallel()
	c := newChecker(t)
	for _, path := range files(t) {
		if err := c.check(t, read(t, path)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if resources := read(t, filepath.Dir(path)+"/kustomization.yaml"); !bytes.Contains(resources, []byte("\n  - "+filepath.Base(path)+"\n")) {
			t.Errorf("%s is not in the kustomization", path)
		}
	}
}

// The check finds what is misspelled, of a wrong type, unknown or missing.
func TestMutants(t *testing.T) {
	t.Parallel()
	c := newChecker(t)
	for _, mutant := range []struct{ file, from, to, says string }{
		{"deployment.yaml", "readinessProbe:", "readynessProbe:", "readynessProbe"},
		{"deployment.yaml", "readOnlyRootFilesystem:", "readonlyRootFilesystem:", "readonlyRootFilesystem"},
		{"deployment.yaml", "replicas: 2", "replicas: two", "replicas"},
		{"deployment.yaml", "selector:", "selectors:", "selector"},
		{"deployment.yaml", "apps/v1", "apps/v7", "apps/v7"},
		{"deployment.yaml", "kind: Deployment", "kind: Deploymant", "Deploymant"},
		{"migrate.yaml", "restartPolicy:", "restartpolicy:", "restartpolicy"},
		{"prune.yaml", "jobTemplate:", "jobtemplate:", "jobtemplate"},
		{"poddisruptionbudget.yaml", "unhealthyPodEvictionPolicy:", "unhealthyPodPolicy:", "unhealthyPodPolicy"},
		{"service.yaml", "targetPort:", "targetport:", "targetport"},
		{"monitoring/servicemonitor.yaml", "interval:", "intervall:", "intervall"},
		{"monitoring/prometheusrule.yaml", "expr:", "expression:", "expression"},
	} {
		text := read(t, folder+"/"+mutant.file)
		changed := bytes.Replace(text, []byte(mutant.from), []byte(mutant.to), 1)
		if bytes.Equal(text, changed) {
			t.Errorf("%s does not have %s", mutant.file, mutant.from)
		}
		if err := c.check(t, changed); err == nil || !strings.Contains(err.Error(), mutant.says) {
			t.Errorf("%s with %s: %v", mutant.file, mutant.to, err)
		}
	}
}

// The PrometheusRule has the alerts of deploy/prometheus/alerts.yml, which promtool tests.
func TestPrometheusRule(t *testing.T) {
	alerts := read(t, "../../deploy/prometheus/alerts.yml")
	at := bytes.Index(alerts, []byte("\ngroups:\n"))
	if at < 0 {
		t.Fatal("alerts.yml has no groups")
	}
	var want strings.Builder
	want.WriteString("# Made of deploy/prometheus/alerts.yml by make generate.\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n" +
		"metadata:\n  name: stripeonce\n  labels: { app.kubernetes.io/name: stripeonce }\nspec:\n")
	for line := range strings.Lines(string(alerts[at+1:])) {
		if strings.TrimSpace(line) != "" {
			line = "  " + line
		}
		want.WriteString(line)
	}
	if *writeRule {
		if err := os.WriteFile(rule, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if string(read(t, rule)) != want.String() {
		t.Errorf("%s is not that of alerts.yml: make generate", rule)
	}
}

// object returns an object of a manifest.
func object(t *testing.T, file string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := yaml.Unmarshal(read(t, folder+"/"+file), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// at returns the value at a path of an object, of a pod's template.
func at[T any](t *testing.T, o map[string]any, path string) T {
	t.Helper()
	value, found, err := unstructured.NestedFieldNoCopy(o, strings.Split(path, " ")...)
	typed, ok := value.(T)
	if err != nil || !found || !ok {
		t.Fatalf("%s is %v, %v", path, value, err)
	}
	return typed
}

var stopTimeout = regexp.MustCompile(`const StopTimeout = (\d+) \* time\.Second`)

// What the manifests say of shutdown agrees with serve, and the Service, the budget and the monitor select the pods.
func TestManifestsAgree(t *testing.T) {
	t.Parallel()
	const pod = "spec template spec "
	deployment := object(t, "deployment.yaml")
	container := at[[]any](t, deployment, pod+"containers")[0].(map[string]any)
	var drain, stop int
	for _, argument := range container["args"].([]any) {
		_, _ = fmt.Sscanf(argument.(string), "--drain=%ds", &drain)
	}
	_, _ = fmt.Sscan(string(stopTimeout.FindSubmatch(read(t, "../../internal/server/server.go"))[1]), &stop)
	if grace := int(at[float64](t, deployment, pod+"terminationGracePeriodSeconds")); drain == 0 || stop == 0 || grace < drain+stop+5 {
		t.Errorf("terminationGracePeriodSeconds is %d, with --drain=%ds and %d s for deliveries in flight", grace, drain, stop)
	}
	for name, path := range map[string]string{"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"} {
		if got := at[string](t, container, name+" httpGet path"); got != path {
			t.Errorf("%s asks %s", name, got)
		}
	}
	labels := at[map[string]any](t, deployment, "spec template metadata labels")
	for file, selector := range map[string]string{"deployment.yaml": "spec selector matchLabels", "service.yaml": "spec selector", "poddisruptionbudget.yaml": "spec selector matchLabels"} {
		for label, value := range at[map[string]any](t, object(t, file), selector) {
			if labels[label] != value {
				t.Errorf("%s selects %s=%v, and the pods have %v", file, label, value, labels[label])
			}
		}
	}
	for file, pod := range map[string]string{"deployment.yaml": pod, "migrate.yaml": pod, "prune.yaml": "spec jobTemplate " + pod} {
		o := object(t, file)
		if user := at[float64](t, o, pod+"securityContext runAsUser"); user != 65532 {
			t.Errorf("%s runs as %v, and the image's user is 65532", file, user)
		}
		container := at[[]any](t, o, pod+"containers")[0].(map[string]any)
		if drop := at[[]any](t, container, "securityContext capabilities drop"); !slices.Contains(drop, any("ALL")) || !at[bool](t, container, "securityContext readOnlyRootFilesystem") {
			t.Errorf("%s is not confined", file)
		}
	}
}

// Every variable and flag in the manifests and in the compose file is documented.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	document := append(read(t, "../../docs/configuration.md"), read(t, "../../docs/operations.md")...)
	paths := append(files(t), "../../deploy/compose.yaml")
	var found []string
	for _, path := range paths {
		for _, name := range regexp.MustCompile(`\b(?:DATABASE|STRIPE|CONSOLE|STRIPEONCE)_[A-Z_]+\b|--[a-z-]+\b`).FindAllString(string(read(t, path)), -1) {
			if name == "STRIPEONCE_TAG" || strings.HasPrefix(path, rule) || name == "--wait" {
				continue // of compose
			}
			found = append(found, name)
			if !bytes.Contains(document, []byte("`"+name+"`")) && !bytes.Contains(document, []byte(" "+name+" ")) {
				t.Errorf("%s sets %s, which neither docs/configuration.md nor docs/operations.md has", path, name)
			}
		}
	}
	if len(found) < 8 {
		t.Errorf("only %v are set", found)
	}
}
