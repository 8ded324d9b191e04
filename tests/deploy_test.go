package tests

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// newRegistry returns a registry with all of the collectors.
func newRegistry(t *testing.T) *prometheus.Registry {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	h := webhooks.NewHandlers()
	projection := subscriptions.Register(h, nil)
	mirrored := mirror.Register(h, &mirror.Config{Types: mirror.Billing})
	r, err := webhooks.New(pool, h, &webhooks.Config{Secrets: []string{hooktest.Secret}})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	operator := operations.New(pool, nil)
	registry.MustRegister(metrics.NewReceiver(r), metrics.NewBuild(), metrics.NewLedger(pool), metrics.NewReconcile(operator), metrics.NewVerify(operator),
		metrics.NewRetry(operator), metrics.NewSubscriptions(projection), metrics.NewMirror(mirrored))
	return registry
}

// metricNames returns the names of serve's metrics, including those of histograms' series.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	registry := newRegistry(t)
	// Descriptions are used, since gathering leaves out metrics without a value.
	descriptions := make(chan *prometheus.Desc, 100)
	registry.Describe(descriptions)
	close(descriptions)
	names := map[string]bool{}
	for d := range descriptions {
		name := regexp.MustCompile(`fqName: "([^"]*)"`).FindStringSubmatch(d.String())[1]
		names[name] = true
		if strings.HasSuffix(name, "_seconds") {
			names[name+"_bucket"] = true // of a histogram
		}
	}
	return names
}

var metric = regexp.MustCompile(`\bstripeonce_[a-z_]+\b`)

// Every metric in the dashboard, the alerts and the documents exists, and the documents have every metric.
func TestMetricsInDeploy(t *testing.T) {
	t.Parallel()
	names := metricNames(t)
	documented := map[string]bool{}
	for _, file := range []string{"../deploy/prometheus/alerts.yml", "../deploy/grafana/stripeonce.json", "../docs/monitoring.md", "../docs/operations.md", "../docs/alerts.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metric.FindAllString(string(text), -1) {
			documented[name] = documented[name] || strings.HasSuffix(file, ".md")
			switch name {
			case "stripeonce_migrations", "stripeonce_owner", "stripeonce_app", "stripeonce_operator", "stripeonce_pool_":
				continue // a table, roles, a family of metrics
			}
			if !names[name] {
				t.Errorf("%s names %s, which there is not", file, name)
			}
		}
	}
	for name := range names {
		if !documented[name] && !strings.HasSuffix(name, "_bucket") && !strings.HasPrefix(name, "stripeonce_pool_") {
			t.Errorf("the documents do not name %s", name)
		}
	}
}

func TestDashboardIsJSON(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/grafana/stripeonce.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		if panel.Title == "" || len(panel.Targets) == 0 {
			t.Errorf("a panel without a title or a query: %+v", panel)
		}
	}
}

// promtool returns the path of Prometheus's promtool. Without it, the test is skipped.
func promtool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool")
	}
	return path
}

// The alerts fire for each of the failures that docs/alerts.md lists, and for nothing else.
func TestAlerts(t *testing.T) {
	t.Parallel()
	tool := promtool(t)
	for _, arguments := range [][]string{
		{"check", "rules", "../deploy/prometheus/alerts.yml"},
		{"test", "rules", "../deploy/prometheus/alerts_test.yml"},
	} {
		if out, err := exec.Command(tool, arguments...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, out)
		}
	}
}

// Every alert has a test in which it fires, and a section in the documents, to which its runbook_url leads.
func TestAlertsAreTestedAndDocumented(t *testing.T) {
	t.Parallel()
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	rules, cases, documents := read("../deploy/prometheus/alerts.yml"), read("../deploy/prometheus/alerts_test.yml"), read("../docs/alerts.md")
	for _, match := range regexp.MustCompile(`- alert: (Stripeonce\w+)`).FindAllStringSubmatch(rules, -1) {
		name := match[1]
		if !strings.Contains(cases, `alertname="`+name+`"`) {
			t.Errorf("no test has the alert %s fire", name)
		}
		if !strings.Contains(documents, "\n## "+name+"\n") {
			t.Errorf("docs/alerts.md has no section on %s", name)
		}
		if !strings.Contains(rules, "runbook_url: https://github.com/pook/stripeonce/blob/main/docs/alerts.md#"+strings.ToLower(name)+"\n") {
			t.Errorf("%s has no runbook_url", name)
		}
	}
}

// promtool finds nothing wrong with the metrics' names and types.
func TestMetricsByPromtool(t *testing.T) {
	t.Parallel()
	check := exec.Command(promtool(t), "check", "metrics")
	families, err := newRegistry(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	check.Stdin = &text
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
