package manifests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// schemas is the folder of the OpenAPI schemas in the module kubectl-validate: of the newest Kubernetes that it has.
const schemas = "/pkg/openapiclient/builtins/1.30/"

// checker validates the text of one object.
type checker struct{ folder string }

func newChecker(t *testing.T) *checker {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kubectl-validate").Output()
	if err != nil {
		t.Fatal(err)
	}
	return &checker{strings.TrimSpace(string(out)) + schemas}
}

// kind says what an object is.
type kind struct{ APIVersion, Kind string }

// check validates an object: by the OpenAPI schema of Kubernetes, in which no member may be unknown, or strictly by the types of the
// Prometheus operator.
func (c *checker) check(t *testing.T, text []byte) error {
	t.Helper()
	var of kind
	if err := yaml.Unmarshal(text, &of); err != nil {
		return err
	}
	switch of.Kind {
	case "ServiceMonitor":
		return yaml.UnmarshalStrict(text, &monitoring.ServiceMonitor{})
	case "PrometheusRule":
		return yaml.UnmarshalStrict(text, &monitoring.PrometheusRule{})
	}
	schema, err := c.schema(t, of)
	if err != nil {
		return err
	}
	var object any
	if err := yaml.UnmarshalStrict(text, &object); err != nil {
		return err
	}
	return schema.Validate(object)
}

// schema returns the schema of a kind of objects.
func (c *checker) schema(t *testing.T, of kind) (*jsonschema.Schema, error) {
	t.Helper()
	path, group, version := "apis/"+of.APIVersion, "", of.APIVersion
	if before, after, found := strings.Cut(of.APIVersion, "/"); found {
		group, version = before, after
	} else {
		path = "api/" + version
	}
	text, err := os.ReadFile(c.folder + path + ".json")
	if err != nil {
		return nil, fmt.Errorf("%s has no schema: %w", of.APIVersion, err)
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("kubernetes.json", document); err != nil {
		return nil, err
	}
	want := fmt.Sprint([]any{map[string]any{"group": group, "kind": of.Kind, "version": version}})
	name := ""
	for key, value := range document["components"].(map[string]any)["schemas"].(map[string]any) {
		schema := value.(map[string]any)
		if _, open := schema["additionalProperties"]; !open && schema["properties"] != nil {
			schema["additionalProperties"] = false
		}
		if fmt.Sprint(schema["x-kubernetes-group-version-kind"]) == want {
			name = key
		}
	}
	if name == "" {
		return nil, fmt.Errorf("%s has no kind %s", of.APIVersion, of.Kind)
	}
	return compiler.Compile("kubernetes.json#/components/schemas/" + name)
}
