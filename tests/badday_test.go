package tests

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/spantest"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/otelwebhooks"
)

// badDay is a running program with a simulated account, on the day of a failure.
type badDay struct {
	*server
	spans   func(t *testing.T) []seenSpan // of the program, which this ends
	pool    *pgxpool.Pool
	account *stripesim.Account // of the last two days, with one subscription; nothing is delivered yet
	api     *stripesim.API
}

// seenSpan is a span of a trace.
type seenSpan struct{ event, status string }

// failureInView is a failure, and how the program shows it.
type failureInView struct {
	name    string
	serve   []string                          // flags of serve
	without string                            // a setting of the environment that is left out
	host    func() *webhooks.Handlers         // an application with these handlers, in place of serve; nil: serve
	before  func(t *testing.T, d *badDay)     // before the program starts; nil: nothing
	cause   func(t *testing.T, d *badDay)     // once it runs; nil: nothing
	until   string                            // the beginning of a line of the metrics that shows it
	alert   string                            // which fires
	traced  func(d *badDay) seenSpan          // the event of a span, and a part of its status; nil: the failure is of no event
	pages   func(d *badDay) map[string]string // what a page of the console says, by its path
}

// breakSubscriptions makes every event of a subscription fail.
func breakSubscriptions(t *testing.T, d *badDay) {
	t.Helper()
	pgtest.Exec(t, d.pool, `ALTER TABLE subscriptions ADD CONSTRAINT wrong CHECK (status = '') NOT VALID`)
}

// failOnce delivers an event, which fails.
func failOnce(t *testing.T, d *badDay) {
	t.Helper()
	breakSubscriptions(t, d)
	d.send(t, d.sender, d.account.Events[0].Body, 500)
}

// parkingHandlers are those of an application that parks events.
func parkingHandlers() *webhooks.Handlers {
	h := webhooks.NewHandlers()
	webhooks.On(h, "customer.subscription.created", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error {
		return webhooks.Park(errors.New("nobody knows the customer"))
	})
	return h
}

// firstEvent is a span of the account's first event with a part of its status.
func firstEvent(status string) func(*badDay) seenSpan {
	return func(d *badDay) seenSpan { return seenSpan{d.account.Events[0].ID, status} }
}

func onPage(path, text string) func(*badDay) map[string]string {
	return func(*badDay) map[string]string { return map[string]string{path: text} }
}

// failuresInView are the failures that an operator must see.
func failuresInView() []failureInView {
	return []failureInView{
		{
			name: "the signing secret is wrong",
			cause: func(t *testing.T, d *badDay) {
				wrong := delivery.NewSender(d.url+"/webhooks/stripe", "whsec_of_another_endpoint", 1)
				defer wrong.Close()
				for range 5 {
					d.send(t, wrong, d.account.Events[0].Body, 400)
				}
			},
			until: `stripeonce_rejected_signatures_total{reason="mismatch"} 5`, traced: func(*badDay) seenSpan { return seenSpan{"", "no v1 signature"} }, alert: "WrongSecret", pages: onPage("", "Signatures fail"),
		},
		{
			name: "an event fails", cause: failOnce,
			until: "stripeonce_failing_events 1", traced: firstEvent("violates check constraint"), alert: "EventsFailing",
			pages: func(d *badDay) map[string]string {
				return map[string]string{"": "1 event is failing", "/failures": "violates check constraint", "/events/" + d.account.Events[0].ID: "violates check constraint"}
			},
		},
		{
			name: "the record of a failure cannot be written",
			cause: func(t *testing.T, d *badDay) {
				pgtest.Exec(t, d.pool, `ALTER TABLE stripe_webhook_failures ADD CONSTRAINT wrong CHECK (attempts = 0) NOT VALID`)
				failOnce(t, d)
			},
			until: "stripeonce_unrecorded_failures_total 1", traced: firstEvent("violates check constraint"), alert: "FailuresUnrecorded", pages: onPage("", "could not be recorded"),
		},
		{
			name: "events never arrived", serve: []string{"--reconcile-every", "1h"},
			until: "stripeonce_reconcile_missing_events_total 2", traced: firstEvent(""), alert: "MissingEvents",
			pages: func(*badDay) map[string]string {
				return map[string]string{"": "2 missing events", "/runs": "reconcile"}
			},
		},
		{
			name: "the retrier is stuck", serve: []string{"--retry-failed"},
			before: func(t *testing.T, d *badDay) { // another process holds its lock, and does nothing
				tx, err := d.pool.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
				if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended('stripeonce_retry stripeonce ' || current_schema(), 0))`); err != nil {
					t.Fatal(err)
				}
			},
			cause: failOnce,
			until: `stripeonce_retry_runs_total{result="skipped"} 1`, traced: firstEvent("violates check constraint"), alert: "RetrierStopped", pages: onPage("/failures", "violates check constraint"),
		},
		{
			name: "a handler parks an event", host: parkingHandlers,
			cause: func(t *testing.T, d *badDay) { d.send(t, d.sender, d.account.Events[0].Body, 200) },
			until: "stripeonce_parked_events 1", traced: firstEvent("nobody knows the customer"), alert: "EventsParked",
			pages: func(*badDay) map[string]string {
				return map[string]string{"": "1 event is parked", "/failures": "nobody knows the customer"}
			},
		},
		{
			name: "thin events cannot be fetched",
			cause: func(t *testing.T, d *badDay) {
				d.api.Fail(stripesim.Fault{Status: 403, Path: "/v1/subscriptions/" + d.account.Subscriptions[0].ID()})
				d.send(t, d.sender, d.account.Events[0].Thin(true), 503)
			},
			until: `stripeonce_fetches_total{result="refused"} 1`, traced: func(d *badDay) seenSpan {
				return seenSpan{d.account.Events[0].ThinID(), "the API key may not read the object"}
			}, alert: "FetchesRefused", pages: onPage("", "Stripe refuses"),
		},
		{
			name: "a row differs from Stripe's object", serve: []string{"--verify-every", "1s"},
			cause: func(t *testing.T, d *badDay) {
				for _, ev := range d.account.Events {
					d.send(t, d.sender, ev.Body, 200)
				}
				pgtest.Exec(t, d.pool, `UPDATE subscriptions SET status = 'past_due'`)
			},
			until: "stripeonce_verify_drifted_objects_total 1", alert: "Drift",
			pages: func(*badDay) map[string]string {
				return map[string]string{"": "differed from Stripe", "/runs": "verify"}
			},
		},
		{
			name: "a row has only a part of Stripe's list", without: "STRIPE_API_KEY",
			cause: func(t *testing.T, d *badDay) {
				d.send(t, d.sender, hooktest.Event("evt_1", "customer.subscription.created", time.Now().Unix(),
					`{"id":"sub_1","object":"subscription","status":"active","items":{"object":"list","has_more":true,"data":[{"id":"si_1"}]}}`), 200)
			},
			until: `stripeonce_incomplete_rows{table="subscriptions"} 1`, traced: func(*badDay) seenSpan { return seenSpan{"evt_1", ""} }, alert: "IncompleteRows", pages: onPage("/subscriptions/sub_1", "Stripe has more items than the event contained"),
		},
	}
}

// For each failure, the alert of deploy/prometheus fires, a page of the console shows it, and a trace has it.
func TestBadDay(t *testing.T) {
	t.Parallel()
	for _, failure := range failuresInView() {
		t.Run(failure.name, func(t *testing.T) {
			t.Parallel()
			d := newBadDay(t, &failure)
			before := "" // the failure is there before the first scrape
			if failure.cause != nil {
				before = d.metrics(t)
				failure.cause(t, d)
			}
			var after string
			pgtest.Await(t, "the metrics show the failure", func() bool {
				after = d.metrics(t)
				return strings.Contains("\n"+after, "\n"+failure.until)
			})
			for path, text := range failure.pages(d) {
				if status, page := d.visit(t, "GET", "/console"+path, "stripeonce", "a password"); status != 200 || !strings.Contains(page, text) {
					t.Errorf("/console%s is %d and does not say %q:\n%s", path, status, text, inside(page))
				}
			}
			if failure.traced != nil {
				expectSpan(t, failure.traced(d), d.spans(t))
			}
			expectAlert(t, "Stripeonce"+failure.alert, before, after)
		})
	}
}

func newBadDay(t *testing.T, failure *failureInView) *badDay {
	t.Helper()
	databaseURL := pgtest.NewURL(t)
	d := &badDay{pool: pgtest.Connect(t, databaseURL), account: stripesim.New(6, time.Now().Add(-48*time.Hour))}
	sub := d.account.Subscribe(stripesim.VersionBasil)
	d.account.Wait(time.Second)
	sub.Activate()
	d.account.Wait(48 * time.Hour)
	d.api = stripesim.NewAPI(d.account)
	api := httptest.NewServer(d.api)
	t.Cleanup(api.Close)
	if failure.before != nil {
		failure.before(t, d)
	}
	env := environ("DATABASE_URL="+databaseURL, "STRIPE_API_KEY=sk_test_of_a_test", "STRIPE_API_BASE="+api.URL, "CONSOLE_PASSWORD=a password")
	env = slices.DeleteFunc(env, func(setting string) bool {
		return failure.without != "" && strings.HasPrefix(setting, failure.without+"=")
	})
	if failure.host != nil {
		d.newHost(t, failure.host())
		return d
	}
	traces := newCollector(t)
	d.server = serve(t, append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+traces.URL), failure.serve...)
	d.spans = func(t *testing.T) (list []seenSpan) {
		d.stop(t, syscall.SIGTERM)
		traces.mu.Lock()
		defer traces.mu.Unlock()
		for _, span := range traces.spans {
			list = append(list, seenSpan{value(span.GetAttributes(), "stripe.event.id"), span.GetStatus().GetMessage()})
		}
		return list
	}
	return d
}

// expectSpan expects that one of the spans is of an event and has a part of a status.
func expectSpan(t *testing.T, want seenSpan, spans []seenSpan) {
	t.Helper()
	if !slices.ContainsFunc(spans, func(span seenSpan) bool {
		return span.event == want.event && strings.Contains(span.status, want.status)
	}) {
		t.Errorf("no span is of %q with %q, of %q", want.event, want.status, spans)
	}
}

// newHost serves the route, the console and the metrics of an application.
func (d *badDay) newHost(t *testing.T, h *webhooks.Handlers) {
	t.Helper()
	recorded := spantest.New()
	r, err := webhooks.New(d.pool, h, &webhooks.Config{
		Secrets: []string{hooktest.Secret}, Logger: hooktest.NoLog(), Tracer: otelwebhooks.NewTracer(&otelwebhooks.Config{TracerProvider: recorded.Provider}),
	})
	if err != nil {
		t.Fatal(err)
	}
	pages := console.New(d.pool, r, &console.Config{Logger: hooktest.NoLog()})
	t.Cleanup(pages.Close)
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewReceiver(r), metrics.NewLedger(d.pool))
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/stripe", r)
	mux.Handle("/console", http.StripPrefix("/console", pages))
	mux.Handle("/console/", http.StripPrefix("/console", pages))
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	d.server = &server{url: app.URL, sender: delivery.NewSender(app.URL+"/webhooks/stripe", hooktest.Secret, 1)}
	t.Cleanup(d.sender.Close)
	d.spans = func(*testing.T) (list []seenSpan) {
		for _, span := range recorded.All() {
			list = append(list, seenSpan{spantest.Value(&span, "stripe.event.id"), span.Status.Description})
		}
		return list
	}
}

// send delivers an event, and expects the status of the response.
func (d *badDay) send(t *testing.T, sender *delivery.Sender, body []byte, status int) {
	t.Helper()
	reply, err := sender.Send(t.Context(), body)
	if err != nil || reply.Status != status {
		t.Fatalf("the response is %s, %v, want %d", reply, err, status)
	}
}

func (d *badDay) metrics(t *testing.T) string {
	t.Helper()
	status, text := d.get(t, "/metrics")
	if status != 200 {
		t.Fatalf("/metrics is answered %d %s", status, text)
	}
	return text
}

// expectAlert lets Prometheus scrape one state for ten minutes and the other for hours, and expects that an alert fires in the second
// alone.
func expectAlert(t *testing.T, alert, before, after string) {
	t.Helper()
	tool := promtool(t)
	rules, err := filepath.Abs("../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	const minutes = 10
	now := float64(time.Now().Unix()) - minutes*60
	old, young := samples(t, before, now), samples(t, after, now)
	var text strings.Builder
	fmt.Fprintf(&text, "rule_files: [%s]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n", rules)
	for _, series := range slices.Sorted(maps.Keys(young)) {
		first := fmt.Sprintf("_x%d", minutes)
		if value, ok := old[series]; ok {
			first = fmt.Sprintf("%sx%d", strconv.FormatFloat(value, 'f', -1, 64), minutes-1) // one more than the number
		}
		fmt.Fprintf(&text, "  - series: '%s'\n    values: %s %sx720\n", series, first, strconv.FormatFloat(young[series], 'f', -1, 64))
	}
	const expect = "  - expr: max by (alertname) (max_over_time(ALERTS{alertname=\"%s\",alertstate=\"firing\"}[%s]))\n    eval_time: %s\n    exp_samples: %s\n"
	fmt.Fprintf(&text, "  promql_expr_test:\n"+expect+expect, alert, "9m", "9m", "[]",
		alert, "12h", "12h", fmt.Sprintf("[{labels: '{alertname=\"%s\"}', value: 1}]", alert))
	file := filepath.Join(t.TempDir(), "alerts_test.yml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s\n%s", err, out, after)
	}
}

// samples returns the program's own metrics by series. Times are relative to the beginning of the test, except 0, which means never.
func samples(t *testing.T, scraped string, begin float64) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(scraped) {
		series, text, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found || !strings.HasPrefix(series, "stripeonce_") {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if strings.Contains(series, "_timestamp_seconds") && value > 0 {
			value -= begin
		}
		all[series] = value
	}
	return all
}

// inside returns the text of a page between its header and its footer.
func inside(page string) string {
	_, page, _ = strings.Cut(page, `<main id="main">`)
	page, _, _ = strings.Cut(page, "</main>")
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")), " ")
}
