//go:build tools

package manifests

// The module has the OpenAPI schemas of Kubernetes as files, which schemas_test.go reads. Its own program takes minutes to compile.
import _ "sigs.k8s.io/kubectl-validate/pkg/openapiclient"
