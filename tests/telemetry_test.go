package tests

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// collector is a receiver of OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	spans    []*trace.Span
	metrics  []string
	services []string
	headers  []string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := io.Reader(req.Body)
		if req.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(body)
		}
		text, err := io.ReadAll(body)
		if err == nil {
			err = c.receive(req, text)
		}
		if err != nil {
			t.Errorf("%s: %v", req.URL, err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) receive(req *http.Request, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers = append(c.headers, req.Header.Get("X-Tenant"))
	if req.URL.Path == "/v1/metrics" {
		var all metrics.ExportMetricsServiceRequest
		err := proto.Unmarshal(body, &all)
		for _, resource := range all.GetResourceMetrics() {
			for _, scope := range resource.GetScopeMetrics() {
				for _, metric := range scope.GetMetrics() {
					c.metrics = append(c.metrics, metric.GetName())
				}
			}
		}
		return err
	}
	var all traces.ExportTraceServiceRequest
	err := proto.Unmarshal(body, &all)
	for _, resource := range all.GetResourceSpans() {
		c.services = append(c.services, value(resource.GetResource().GetAttributes(), "service.name"))
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return err
}

func value(attributes []*common.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// span returns the one span of a name whose event has an id.
func (c *collector) span(t *testing.T, name, event string) *trace.Span {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []*trace.Span
	for _, span := range c.spans {
		if span.GetName() == name && value(span.GetAttributes(), "stripe.event.id") == event {
			found = append(found, span)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the collector has %d spans %q of %s, of %v", len(found), name, event, c.spans)
	}
	return found[0]
}

// failing has the program fail each event of a subscription that is past due.
const failing = `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no such organization'; END $$;
	CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON subscriptions FOR EACH ROW WHEN (NEW.status = 'past_due') EXECUTE FUNCTION refuse()`

// serve exports traces and metrics by OpenTelemetry's standard variables, and what is left when it stops. The trace of a failed attempt
// is in the log, in failures EVENT and in the console.
func TestServeExports(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	databaseURL := pgtest.NewURL(t)
	pgtest.Exec(t, pgtest.Connect(t, databaseURL), failing)
	const password = "long enough 1"
	env := environ("DATABASE_URL="+databaseURL, "LOG_FORMAT=json", "CONSOLE_PASSWORD="+password,
		"OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_SERVICE_NAME=billing", "OTEL_EXPORTER_OTLP_HEADERS=x-tenant=acme", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip")
	s := serve(t, env, "--trace-url", "https://traces.example.com/{trace_id}?from=console")
	good := subscriptionEvent("evt_good", 1, "active")
	s.expect(t, good, 200, webhooks.OutcomeProcessed)
	s.expect(t, subscriptionEvent("evt_bad", 2, "past_due"), 500, "")

	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	proxied, err := http.NewRequest(http.MethodPost, s.url+"/webhooks/stripe", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	proxied.Header.Set("traceparent", parent)
	if response, err := http.DefaultClient.Do(proxied); err != nil || response.StatusCode != 400 {
		t.Fatalf("an unsigned delivery is answered %v, %v", response, err)
	}

	r := run(t, env, "", "failures", "evt_bad", "--json")
	var detail struct {
		Failure struct {
			TraceID string `json:"trace_id"`
			History []struct {
				TraceID string `json:"trace_id"`
			}
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &detail); err != nil || r.code != 0 {
		t.Fatalf("%v: %s", err, r)
	}
	id := detail.Failure.TraceID
	if len(id) != 32 || len(detail.Failure.History) != 1 || detail.Failure.History[0].TraceID != id {
		t.Fatalf("the record has the trace %q: %s", id, r)
	}
	if r := run(t, env, "", "failures", "evt_bad"); !strings.Contains(r.stdout, "trace "+id+"\n") {
		t.Errorf("failures EVENT does not name the trace %s: %s", id, r)
	}
	link := `<a class="id" href="https://traces.example.com/` + id + `?from=console">` + id + `</a>`
	if _, page := s.visit(t, http.MethodGet, "/console/events/evt_bad", "stripeonce", password); !strings.Contains(page, link) {
		t.Errorf("the console has no link %s:\n%s", link, page)
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d:\n%s", code, s.text())
	}

	bad, ok := c.span(t, "stripe customer.subscription.updated", "evt_bad"), c.span(t, "stripe customer.subscription.updated", "evt_good")
	if hex.EncodeToString(bad.GetTraceId()) != id || !strings.Contains(bad.GetStatus().GetMessage(), "no such organization") {
		t.Errorf("the failed delivery's span is %v, want the trace %s", bad, id)
	}
	if value(ok.GetAttributes(), "stripeonce.outcome") != "processed" || ok.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR {
		t.Errorf("the delivery's span is %v", ok)
	}
	if rejected := c.span(t, "stripe delivery", ""); "00-"+hex.EncodeToString(rejected.GetTraceId())+"-"+hex.EncodeToString(rejected.GetParentSpanId())+"-01" != parent {
		t.Errorf("the span does not continue the proxy's trace: %v", rejected)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range []string{"stripeonce_deliveries_total", "stripeonce_build_info", "stripeonce_failing_events", "go_goroutines"} {
		if !slices.Contains(c.metrics, name) {
			t.Errorf("the collector lacks the metric %s: it has %q", name, c.metrics)
		}
	}
	if !slices.Equal(slices.Compact(c.services), []string{"billing"}) || !slices.Equal(slices.Compact(c.headers), []string{"acme"}) {
		t.Errorf("the service is %q, and the header %q", c.services, c.headers)
	}
	for _, line := range s.entries(t) {
		if line.EventID == "evt_bad" && line.Msg == "stripe delivery" && line.TraceID != id {
			t.Errorf("the line has not the trace %s: %s", id, line.Original)
		}
	}
}

// Without an exporter's variable, nothing is exported: OTEL_SERVICE_NAME alone, or OTEL_SDK_DISABLED. Nor is what is set to none.
func TestServeExportsNothing(t *testing.T) {
	t.Parallel()
	for _, settings := range [][]string{
		{"OTEL_SERVICE_NAME=billing"},
		{"OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT="},
		{"OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT="},
	} {
		t.Run(settings[0], func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			for i := range settings {
				if strings.HasSuffix(settings[i], "_ENDPOINT=") {
					settings[i] += c.URL
				}
			}
			s := serve(t, environ(append(settings, "DATABASE_URL="+pgtest.NewURL(t), "LOG_FORMAT=json")...))
			s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeProcessed)
			s.stop(t, syscall.SIGTERM)
			if len(c.headers) > 0 {
				t.Errorf("the collector has received %d requests", len(c.headers))
			}
			for _, line := range s.entries(t) {
				if line.TraceID != "" {
					t.Errorf("the log has a trace that nobody has: %s", line.Original)
				}
			}
		})
	}
}

// A collector that hangs, or is not there, neither delays deliveries nor fails them, nor the end. It is logged.
func TestServeWithoutACollector(t *testing.T) {
	t.Parallel()
	hangs, err := net.Listen("tcp", "127.0.0.1:0") // it accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangs.Close() })
	for name, endpoint := range map[string]string{"hangs": "http://" + hangs.Addr().String(), "refuses": "http://127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t), "LOG_FORMAT=json", "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint,
				"OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_MAX_QUEUE_SIZE=1"))
			for i := range 5 {
				s.expect(t, subscriptionEvent(fmt.Sprintf("evt_%d", i), int64(i)+1, []string{"active", "past_due"}[i%2]), 200, webhooks.OutcomeProcessed)
			}
			began := time.Now()
			if code := s.stop(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit %d:\n%s", code, s.text())
			}
			if took := time.Since(began); took > 20*time.Second { // the limit is 3 s, and the machine may be busy
				t.Errorf("it took %v to stop", took)
			}
			entries := s.entries(t)
			if last := entries[len(entries)-1]; last.Msg != "stopped" {
				t.Errorf("the last line is %s", last.Original)
			}
			if !slices.ContainsFunc(entries, func(e entry) bool { return strings.Contains(e.Msg, "could not export") && e.Level == "WARN" }) {
				t.Errorf("the log does not say that the export failed:\n%s", s.text())
			}
		})
	}
}

// Settings that cannot work are refused, with the variable's name.
func TestServeRefusesTelemetry(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	for setting, want := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318":    "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL: use one such as http://localhost:4318",
		"OTEL_TRACES_EXPORTER=jaeger":                   "OTEL_TRACES_EXPORTER",
		"OTEL_METRICS_EXPORTER=statsd":                  "OTEL_METRICS_EXPORTER",
		"--trace-url=https://traces.example.com/{trace": "--trace-url: it is not a URL with {trace_id}",
		"--trace-url=javascript:alert('{trace_id}')":    "--trace-url: it is not a URL with {trace_id}",
	} {
		env, args := environ("DATABASE_URL="+databaseURL, "STRIPE_WEBHOOK_SECRET="+hooktest.Secret), []string{"serve", "--addr", "127.0.0.1:0"}
		if strings.HasPrefix(setting, "--") {
			args = append(args, setting)
		} else {
			env = append(env, setting)
		}
		if r := run(t, env, "", args...); r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("with %s: %s", setting, r)
		}
	}
}
