// Package console is a page to look at a receiver with: what arrives and what comes of it, the ledger, what fails,
// with a button that applies it again, and the subscriptions. It is drawn on the server, needs no JavaScript, and
// loads nothing from elsewhere.
//
// Mount it behind your own authentication: it shows customers' data and makes events take effect.
//
//	console.New(pool, receiver, nil).Mount(e.Group("/admin/stripe", requireAdmin))
package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"github.com/pook/stripeonce/db"
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
	return c
}

// Router is what Mount needs of Echo v4: both *echo.Echo and *echo.Group have it.
type Router interface {
	GET(path string, handler echo.HandlerFunc, middleware ...echo.MiddlewareFunc) *echo.Route
	POST(path string, handler echo.HandlerFunc, middleware ...echo.MiddlewareFunc) *echo.Route
}

// Mount adds the pages to a group, such as e.Group("/admin/stripe", requireAdmin). It checks nobody's identity.
func (c *Console) Mount(router Router) {
	pages := map[string]func(*request) (*page, error){
		"":                   c.overview,
		"/events":            c.events,
		"/events/:id":        c.event,
		"/failures":          c.failures,
		"/subscriptions":     c.subscriptions,
		"/subscriptions/:id": c.subscription,
	}
	for path, build := range pages {
		router.GET(path, c.handler(path, build))
	}
	overview := c.handler("", c.overview)
	router.GET("/", func(e echo.Context) error {
		if base := baseOf(e, "/"); base != "" {
			return e.Redirect(http.StatusSeeOther, base)
		}
		return overview(e) // mounted at the root, where Echo takes both paths for one
	})
	router.GET(stylePath, serveStyle)
	router.POST(replayPath, c.replay)
}

// request is what a page is made for.
type request struct {
	echo.Context
	ctx  context.Context
	base string // the path that the console is mounted at
}

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

func (c *Console) handler(path string, build func(*request) (*page, error)) echo.HandlerFunc {
	return func(e echo.Context) error {
		ctx, cancel := context.WithTimeout(e.Request().Context(), c.config.Timeout)
		defer cancel()
		r := &request{e, ctx, baseOf(e, path)}
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
		return render(e, status, p)
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
	case webhooks.LacksMigration(err):
		what = problem{"The database lacks a migration.", "Run stripeonce migrate, or what applies your migrations, on it."}
	case errors.Is(err, errNotFound), errors.Is(err, operations.ErrNotFound):
		status, what = http.StatusNotFound, problem{"There is nothing by that name.", "What never arrived is not known here, nor an event whose row has been pruned."}
	case errors.Is(err, errTime):
		status, what = http.StatusBadRequest, problem{"That is no time.", "Write it as 2026-11-24T10:00, in UTC."}
	case r.ctx.Err() != nil:
		what = problem{"That took too long.", "Narrow the time, or look for an id: a type or an outcome that is rare is looked for event by event."}
	default:
		c.config.Logger.ErrorContext(r.ctx, "console", "path", r.Path(), "error", err)
	}
	return status, &page{Title: "Not shown", Template: "problem", Data: what}
}

// baseOf is the path that the console is mounted at, where a route of it is asked for.
func baseOf(e echo.Context, route string) string {
	prefix := strings.TrimSuffix(e.Path(), route)
	segments := strings.Split(e.Request().URL.EscapedPath(), "/")
	return strings.Join(segments[:min(len(segments), len(strings.Split(prefix, "/")))], "/")
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

func render(e echo.Context, status int, p *page) error {
	var text strings.Builder
	if err := templates[p.Template].Execute(&text, p); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	header := e.Response().Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	return e.HTML(status, text.String())
}

const stylePath = "/console.css"

func serveStyle(e echo.Context) error {
	style, err := files.ReadFile("static/console.css")
	if err != nil {
		return err
	}
	e.Response().Header().Set("Cache-Control", "max-age=300")
	return e.Blob(http.StatusOK, "text/css; charset=utf-8", style)
}
