// Package console is a page to look at a receiver with: what arrives and what comes of it, the ledger, what fails,
// with a button that applies it again, and the subscriptions. It is drawn on the server, needs no JavaScript, and
// loads nothing from elsewhere.
//
// Mount it behind your own authentication: it shows customers' data and makes events take effect. It is an http.Handler:
//
//	http.Handle("/admin/stripe/", requireAdmin(http.StripPrefix("/admin/stripe", console.New(pool, receiver, nil))))
//
// In Echo, webhooks/echov4 and webhooks/echov5 mount it.
package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

const (
	// DefaultTimeout bounds what one page asks PostgreSQL and Stripe.
	DefaultTimeout = 5 * time.Second
	// patientTimeout is for what no page waits for, or a whole event: its functions have the receiver's Timeout.
	patientTimeout = 30 * time.Second
	// maxAtOnce is how many pages are made at once: they share the receiver's connections.
	maxAtOnce = 2
	pageRows  = 50
)

// Config configures a Console. The zero value is fine.
type Config struct {
	// APIKey has the overview compare Stripe's endpoints with the types that have handlers, and Replay ask Stripe
	// for an event whose payload is not kept. Empty: neither.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Empty: Stripe's.
	APIBase string
	// HidePayloads leaves out the events' payloads, and the subscriptions' objects and metadata, which have
	// customers' data. The texts of errors are shown: they are your functions' own.
	HidePayloads bool
	// Timeout bounds what one page asks. 0: DefaultTimeout.
	Timeout time.Duration
	// Logger is told what goes wrong. Nil: slog.Default().
	Logger *slog.Logger
}

// Console is the page. Create it with New.
type Console struct {
	receiver  *webhooks.Receiver
	operator  *operations.Operator
	reader    *subscriptions.Reader
	queries   *db.Queries
	pool      *pgxpool.Pool
	config    Config
	endpoints endpointCache
	sameSite  *http.CrossOriginProtection
	slots     chan struct{}
	mux       *http.ServeMux
}

// New makes a Console that looks at pool's database and applies events again through the receiver. A nil config is
// the zero one.
func New(pool *pgxpool.Pool, receiver *webhooks.Receiver, config *Config) *Console {
	c := &Console{
		receiver: receiver, pool: pool, queries: db.New(), reader: subscriptions.New(pool),
		sameSite: http.NewCrossOriginProtection(), slots: make(chan struct{}, maxAtOnce),
	}
	if config != nil {
		c.config = *config
	}
	if c.config.Timeout == 0 {
		c.config.Timeout = DefaultTimeout
	}
	if c.config.Logger == nil {
		c.config.Logger = slog.Default()
	}
	c.operator = operations.New(pool, &operations.Config{
		Applier: receiver, APIKey: c.config.APIKey, APIBase: c.config.APIBase, APITimeout: c.config.Timeout, Logger: c.config.Logger,
	})
	c.mux = c.routes()
	return c
}

func (c *Console) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for path, build := range map[string]func(*request) (*page, error){
		"/{$}":                c.overview,
		"/events":             c.events,
		"/events/{id}":        c.event,
		"/failures":           c.failures,
		"/subscriptions":      c.subscriptions,
		"/subscriptions/{id}": c.subscription,
	} {
		mux.HandleFunc("GET "+path, c.handler(strings.TrimSuffix(path, "/{$}"), build))
	}
	mux.HandleFunc("GET /console.css", serveStyle)
	mux.HandleFunc("POST /events/{id}/replay", c.replay)
	return mux
}

// ServeHTTP serves the pages. The request's URL has the path below the one that the console is mounted at, as
// http.StripPrefix leaves it; the rest is found in RequestURI. It checks nobody's identity.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base := baseOf(r)
	if r.URL.Path == "/" && base != "" {
		http.Redirect(w, r, base, http.StatusSeeOther) //nolint:gosec // a path of this host's
		return
	}
	r = r.Clone(context.WithValue(r.Context(), baseKey{}, base))
	if r.URL.Path == "" {
		r.URL.Path, r.URL.RawPath = "/", ""
	}
	c.mux.ServeHTTP(w, r)
}

// baseKey is where a request's context has the path that the console is mounted at.
type baseKey struct{}

// baseOf is the path that the console is mounted at, escaped: what precedes the URL's path in the one that was asked for.
func baseOf(r *http.Request) string {
	asked, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return ""
	}
	base, found := strings.CutSuffix(asked.EscapedPath(), r.URL.EscapedPath())
	if !found || base == "" {
		return ""
	}
	return "/" + strings.TrimLeft(base, "/") // never another host's
}

// request is what a page is made for.
type request struct {
	*http.Request
	ctx  context.Context
	base string // the path that the console is mounted at
}

func newRequest(ctx context.Context, r *http.Request) *request {
	base, _ := r.Context().Value(baseKey{}).(string)
	return &request{r, ctx, base}
}

// param is a parameter of the query.
func (r *request) param(name string) string { return r.URL.Query().Get(name) }

// page is what a template shows.
type page struct {
	Title    string
	Template string // its name
	Base     string
	Path     string // of the page, below Base
	Now      time.Time
	Data     any
}

// errNotFound is a page that there is none of.
var errNotFound = errors.New("there is no such page")

func (c *Console) handler(path string, build func(*request) (*page, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, asked *http.Request) {
		ctx, cancel := context.WithTimeout(asked.Context(), c.config.Timeout)
		defer cancel()
		r := newRequest(ctx, asked)
		var p *page
		err := c.inSlot(ctx, func() (err error) {
			p, err = build(r)
			return err
		})
		status := http.StatusOK
		if err != nil {
			status, p = c.failed(r, err)
		}
		p.Base, p.Path, p.Now = r.base, path, time.Now()
		c.render(w, r, status, p)
	}
}

// inSlot does what asks PostgreSQL, when few others do. The error is its own, or that ctx ended before.
func (c *Console) inSlot(ctx context.Context, do func() error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// problem is what the page of an error shows.
type problem struct{ What, Mend string }

func (c *Console) failed(r *request, err error) (status int, p *page) {
	what := problem{"PostgreSQL could not be asked.", "The log has the reason."}
	status = http.StatusServiceUnavailable
	switch {
	case fault.LacksMigration(err):
		what = problem{"The database lacks a migration.", "Run stripeonce migrate, or what applies your migrations, on it."}
	case errors.Is(err, errNotFound), errors.Is(err, operations.ErrNotFound):
		status, what = http.StatusNotFound, problem{"There is nothing by that name.", "What never arrived is not known here, nor an event whose row has been pruned."}
	case errors.Is(err, errTime):
		status, what = http.StatusBadRequest, problem{"That is no time.", "Write it as 2026-11-24T10:00, in UTC."}
	case r.ctx.Err() != nil:
		what = problem{"That took too long.", "Narrow the time, or look for an id: a type or an outcome that is rare is looked for event by event."}
	default:
		c.config.Logger.ErrorContext(r.ctx, "console", "path", r.URL.Path, "error", err)
	}
	return status, &page{Title: "Not shown", Template: "problem", Data: what}
}

//go:embed templates static
var files embed.FS

var templates = parseTemplates("overview", "events", "event", "failures", "subscriptions", "subscription", "problem")

func parseTemplates(names ...string) map[string]*template.Template {
	all := map[string]*template.Template{}
	for _, name := range names {
		all[name] = template.Must(template.New("layout.html").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/parts.html", "templates/"+name+".html"))
	}
	return all
}

// policy lets a page load its style and send its own forms, and nothing else.
const policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func (c *Console) render(w http.ResponseWriter, r *request, status int, p *page) {
	var text bytes.Buffer
	if err := templates[p.Template].Execute(&text, p); err != nil {
		c.config.Logger.ErrorContext(r.ctx, "console", "path", r.URL.Path, "error", err)
		http.Error(w, "The page could not be made. The log has the reason.", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "text/html; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // who asked may have gone
}

func serveStyle(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=300")
	http.ServeFileFS(w, r, files, "static/console.css")
}
