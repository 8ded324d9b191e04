package console

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

const (
	// DefaultTimeout bounds the requests of one page to PostgreSQL and Stripe.
	DefaultTimeout = 5 * time.Second
	// DefaultQuietAfter is the time without a new event after which the overview warns.
	DefaultQuietAfter = 24 * time.Hour
	// DefaultRunTimeout bounds a run that the console starts.
	DefaultRunTimeout = 15 * time.Minute
	// backgroundTimeout bounds a replay and requests that no page waits for. A replay's handlers have the receiver's Timeout.
	backgroundTimeout = 30 * time.Second
	// maxConcurrent is how many pages are built concurrently. They share the receiver's connections.
	maxConcurrent = 2
	pageRows      = 50
)

// Config configures a Console. The zero value is fine. With an API key the console can also compare with Stripe, fetch from it, and
// apply missing events.
type Config struct {
	// APIKey is used to compare Stripe's endpoints with the types that have handlers, to fetch an event whose payload was not kept, for
	// Replay, and for the runs that the console starts. Optional.
	APIKey string
	// APIBase is another address of Stripe's API, for tests. Defaults to Stripe's.
	APIBase string
	// HidePayloads hides events' payloads, and the objects, summaries and metadata of subscriptions and mirrored objects, which have
	// customers' data. Error texts are shown, including those of your handlers.
	HidePayloads bool
	// Subscriptions and Mirror are the results of subscriptions.Register and mirror.Register for the receiver's handlers. What the
	// console fetches from Stripe then calls their OnChange. Without Subscriptions, subscriptions are compared and not fetched. Without
	// Mirror, mirrored objects are fetched, and no OnChange is called. Optional.
	Subscriptions *subscriptions.Projection
	Mirror        *mirror.Projection
	// ReadOnly reports whether the user of a request may only look: the pages have no buttons then, and each POST is answered 403.
	// Optional.
	ReadOnly func(*http.Request) bool
	// User returns the name of the user of a request, for the record of the runs that the user starts (stripe_webhook_runs). Optional.
	User func(*http.Request) string
	// TraceURL is where the trace of a failed attempt can be looked at, with {trace_id} in place of its id, such as
	// "https://jaeger.example.com/trace/{trace_id}": see webhooks.Config.Tracer, and CheckTraceURL. Empty: the ids are shown without
	// a link.
	TraceURL string
	// QuietAfter is the time without a new event after which the overview warns. Defaults to DefaultQuietAfter, 24 hours; negative: it never
	// warns.
	QuietAfter time.Duration
	// Timeout bounds the requests of one page. Defaults to DefaultTimeout.
	Timeout time.Duration
	// RunTimeout bounds a run that the console starts. Defaults to DefaultRunTimeout.
	RunTimeout time.Duration
	// Logger receives errors, replays and runs. Defaults to slog.Default().
	Logger *slog.Logger
}

// Console serves the pages. Create it with New.
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
	work      work
	mux       *http.ServeMux
}

// New returns a Console that reads the pool's database and replays events through the receiver. A nil config is the zero
// Config. Close it if it may start runs.
func New(pool *pgxpool.Pool, receiver *webhooks.Receiver, config *Config) *Console {
	c := &Console{
		receiver: receiver, pool: pool, queries: db.New(), reader: subscriptions.New(pool),
		sameSite: http.NewCrossOriginProtection(), slots: make(chan struct{}, maxConcurrent),
	}
	if config != nil {
		c.config = *config
	}
	c.config.APIKey = strings.TrimSpace(c.config.APIKey)
	c.config.Timeout = cmp.Or(c.config.Timeout, DefaultTimeout)
	c.config.QuietAfter = cmp.Or(c.config.QuietAfter, DefaultQuietAfter)
	c.config.RunTimeout = cmp.Or(c.config.RunTimeout, DefaultRunTimeout)
	if c.config.Logger == nil {
		c.config.Logger = slog.Default()
	}
	c.operator = operations.New(pool, &operations.Config{
		Applier: receiver, APIKey: c.config.APIKey, APIBase: c.config.APIBase, APITimeout: c.config.Timeout, Logger: c.config.Logger,
	})
	c.work.init()
	c.mux = c.routes()
	return c
}

func (c *Console) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for path, build := range c.pages() {
		mux.HandleFunc("GET "+path, c.handler(sectionOf(path), build))
	}
	mux.HandleFunc("GET /console.css", serveStyle)
	mux.HandleFunc("POST /events/{id}/replay", c.action("/events", c.replay))
	mux.HandleFunc("POST /events/{id}/reprocess", c.action("/events", c.reprocess))
	mux.HandleFunc("POST /events/{id}/dismiss", c.action("/events", c.dismiss))
	mux.HandleFunc("POST /runs", c.action("/runs", c.start))
	return mux
}

// pages are the patterns of all pages, each with the function that builds it.
func (c *Console) pages() map[string]func(*request) (*page, error) {
	return map[string]func(*request) (*page, error){
		"/{$}":                c.overview,
		"/events":             c.events,
		"/events/{id}":        c.event,
		"/failures":           c.failures,
		"/subscriptions":      c.subscriptions,
		"/subscriptions/{id}": c.subscription,
		"/objects":            c.objects,
		"/search":             c.search,
		"/runs":               c.runs,
		"/runs/{id}":          c.run,
		newRunPath:            c.confirm,
		reprocessPath:         c.confirmReprocess,
		objectPath:            c.object,
		customerPath:          c.customer,
		"/":                   func(*request) (*page, error) { return nil, errNoPage }, // every other path
	}
}

// sectionOf returns the section of a page.
func sectionOf(path string) string {
	if path == customerPath {
		return "/objects/customer"
	}
	return strings.TrimSuffix(path, "/{$}")
}

// ServeHTTP serves the pages. The request's URL has the path below the mount point, as http.StripPrefix leaves it. The
// mount point is found in RequestURI. ServeHTTP does not authenticate.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base := baseOf(r)
	if r.URL.Path == "/" && base != "" {
		http.Redirect(w, r, base, http.StatusSeeOther) //nolint:gosec // a path on this host
		return
	}
	r = r.Clone(context.WithValue(r.Context(), baseKey{}, base))
	if r.URL.Path == "" {
		r.URL.Path, r.URL.RawPath = "/", ""
	}
	c.mux.ServeHTTP(w, r)
}

// baseKey is the context key of the path that the console is mounted at.
type baseKey struct{}

// baseOf returns the escaped path that the console is mounted at: the part of the requested path before the URL's path.
func baseOf(r *http.Request) string {
	asked, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return ""
	}
	base, found := strings.CutSuffix(asked.EscapedPath(), r.URL.EscapedPath())
	if !found || base == "" {
		return ""
	}
	return "/" + strings.TrimLeft(base, "/") // never another host
}

// request is the request of a page.
type request struct {
	*http.Request
	ctx  context.Context
	base string // the path that the console is mounted at
}

func newRequest(ctx context.Context, r *http.Request) *request {
	base, _ := r.Context().Value(baseKey{}).(string)
	return &request{r, ctx, base}
}

// param returns a query parameter.
func (r *request) param(name string) string { return r.URL.Query().Get(name) }

// page is the data of a template.
type page struct {
	Title    string
	Template string // its name
	Base     string
	Path     string // of the page, below Base, in its section
	Now      time.Time
	Data     any
	Location template.URL // redirects to this path below Base; empty: shows the page
	ReadOnly bool         // the user may only look: it has no buttons
	Refresh  int          // it loads itself again after so many seconds; 0: it does not
	Version  string       // of this program's stripeonce
}

var (
	// errNotFound reports that what a page is about is not stored, and errNoPage that no page has this path.
	errNotFound = errors.New("there is no such event or object")
	errNoPage   = errors.New("there is no such page")
	// errCrossSite and errReadOnly are why a request that acts is refused.
	errCrossSite = errors.New("the request came from another site")
	errReadOnly  = errors.New("the user may only look")
)

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
		if err == nil && p.Location != "" {
			http.Redirect(w, asked, r.base+string(p.Location), http.StatusSeeOther)
			return
		}
		status := http.StatusOK
		if err != nil {
			status, p = c.failed(r, err)
		}
		c.show(w, r, path, status, p)
	}
}

// action returns the handler of a POST, which only users who may act can cause, from the console's own pages.
func (c *Console) action(path string, do func(http.ResponseWriter, *request)) http.HandlerFunc {
	return func(w http.ResponseWriter, asked *http.Request) {
		r := newRequest(asked.Context(), asked)
		var refused error
		switch {
		case c.sameSite.Check(asked) != nil:
			refused = errCrossSite
		case c.readOnly(asked):
			refused = errReadOnly
		}
		if refused != nil {
			status, p := c.failed(r, refused)
			c.show(w, r, path, status, p)
			return
		}
		do(w, r)
	}
}

// readOnly reports whether the user of a request may only look.
func (c *Console) readOnly(r *http.Request) bool {
	return c.config.ReadOnly != nil && c.config.ReadOnly(r)
}

// inSlot calls do when fewer than maxConcurrent pages are being built. It returns do's error, or ctx's if that ends first.
func (c *Console) inSlot(ctx context.Context, do func() error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// problem is the content of an error page.
type problem struct {
	What, Fix string
	Run       template.URL // the path of the run in progress
}

func (c *Console) failed(r *request, err error) (status int, p *page) {
	what := problem{What: "The query to PostgreSQL failed.", Fix: "See the receiver's log for the reason."}
	status = http.StatusServiceUnavailable
	var cannot *unavailableError
	switch {
	case fault.LacksMigration(err):
		what = problem{What: "The database lacks a migration.", Fix: "Run stripeonce migrate, or your own migration tool."}
	case errors.Is(err, errCrossSite):
		status, what = http.StatusForbidden, problem{What: "The request came from another site.", Fix: "Use the buttons on the console's own pages."}
	case errors.Is(err, errReadOnly):
		status, what = http.StatusForbidden, problem{What: "This user may only look.", Fix: "Log in as a user who may act, then press the button again."}
	case errors.Is(err, errForm):
		status, what = http.StatusBadRequest, problem{What: "The form cannot be read.", Fix: "Go back and press the button again."}
	case errors.As(err, &cannot):
		status, what = http.StatusConflict, problem{What: "This cannot be started now.", Fix: cannot.why}
		if cannot.run != "" {
			what.Run = runPath(cannot.run)
		}
	case errors.Is(err, operations.ErrNoRun):
		status, what = http.StatusNotFound, problem{What: "Not found.", Fix: "There is no such run: it had nothing to do, or was pruned."}
	case errors.Is(err, errNoPage):
		status, what = http.StatusNotFound, problem{What: "Not found.", Fix: "There is no page at this address."}
	case errors.Is(err, errNotFound), errors.Is(err, operations.ErrNotFound):
		status, what = http.StatusNotFound, problem{What: "Not found.", Fix: "The event or object never arrived, or its row has been pruned."}
	case errors.Is(err, errBoth):
		status, what = http.StatusBadRequest, problem{What: "Object and customer cannot be combined.", Fix: "The search by customer includes the events of all its objects: leave one of the two fields empty."}
	case errors.Is(err, errReason):
		status, what = http.StatusBadRequest, problem{What: "A reason is required, of at most 500 characters.", Fix: "Go back and enter a reason. It is stored with the event."}
	case errors.Is(err, errTime):
		status, what = http.StatusBadRequest, problem{What: "This is not a valid time.", Fix: "Use the form 2026-11-24T10:00, in UTC."}
	case r.ctx.Err() != nil:
		what = problem{What: "The query took too long.", Fix: "Narrow the time, or search for an id. There is no index for a rare type or outcome."}
	default:
		c.config.Logger.ErrorContext(r.ctx, "console: page failed", "path", r.URL.Path, "error", err)
	}
	return status, &page{Title: "Not shown", Template: "problem", Data: what}
}

//go:embed templates static
var files embed.FS

var templates = parseTemplates("overview", "events", "event", "failures", "group", "subscriptions", "subscription", "objects", "object", "customer", "search", "runs", "run", "start", "reprocess", "problem")

func parseTemplates(names ...string) map[string]*template.Template {
	all := map[string]*template.Template{}
	for _, name := range names {
		all[name] = template.Must(template.New("layout.html").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/parts.html", "templates/"+name+".html"))
	}
	return all
}

// policy permits only the page's own style sheet and forms.
const policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// show writes a page.
func (c *Console) show(w http.ResponseWriter, r *request, path string, status int, p *page) {
	p.Base, p.Path, p.Now, p.ReadOnly, p.Version = r.base, path, time.Now(), c.readOnly(r.Request), version()
	c.render(w, r, status, p)
}

func (c *Console) render(w http.ResponseWriter, r *request, status int, p *page) {
	var text bytes.Buffer
	if err := templates[p.Template].Execute(&text, p); err != nil {
		c.config.Logger.ErrorContext(r.ctx, "console: could not render a page", "path", r.URL.Path, "error", err)
		http.Error(w, "The page could not be rendered. See the receiver's log for the reason.", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "text/html; charset=UTF-8")
	if p.Refresh > 0 {
		header.Set("Refresh", strconv.Itoa(p.Refresh))
	}
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // the client may have disconnected
}

func serveStyle(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=300")
	http.ServeFileFS(w, r, files, "static/console.css")
}
