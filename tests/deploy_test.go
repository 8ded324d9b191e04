package tests

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// metricNames returns the names of serve's metrics, including those of histograms' series.
func metricNames(t *testing.T) map[string]bool {
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
	registry.MustRegister(metrics.NewReceiver(r), metrics.NewBuild(), metrics.NewLedger(pool), metrics.NewReconcile(operations.New(pool, nil)), metrics.NewVerify(operations.New(pool, nil)), metrics.NewRetry(operations.New(pool, nil)), metrics.NewSubscriptions(projection), metrics.NewMirror(mirrored))
	// Descriptions are used, since gathering leaves out metrics without a value.
	descriptions := make(chan *prometheus.Desc, 100)
	registry.Describe(descriptions)
	close(descriptions)
	names := map[string]bool{}
	for d := range descriptions {
		name := regexp.MustCompile(`fqName: "([^"]*)"`).FindStringSubmatch(d.String())[1]
		names[name] = true
		if strings.HasSuffix(name, "_duration_seconds") {
			names[name+"_bucket"] = true
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
	for _, file := range []string{"../deploy/prometheus/alerts.yml", "../deploy/grafana/stripeonce.json", "../docs/running.md", "../docs/operations.md"} {
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

// Prometheus's own promtool checks the alerts, if it is installed.
func TestAlertsByPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool")
	}
	out, err := exec.Command(promtool, "check", "rules", "../deploy/prometheus/alerts.yml").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
