package stripesim

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// Endpoint is a webhook endpoint of the account: https://docs.stripe.com/api/webhook_endpoints/object.
type Endpoint struct {
	ID            string
	URL           string
	EnabledEvents []string
	APIVersion    string
	Disabled      bool

	created int64
}

func (e *Endpoint) object() object {
	status := "enabled"
	if e.Disabled {
		status = "disabled"
	}
	return object{
		"id": e.ID, "object": "webhook_endpoint", "api_version": stripeobject.OrNull(e.APIVersion), "application": nil, "created": e.created,
		"description": nil, "enabled_events": e.EnabledEvents, "livemode": false, "metadata": object{}, "status": status, "url": e.URL,
	}
}

// AddEndpoint adds a webhook endpoint with a new id.
func (api *API) AddEndpoint(e Endpoint) {
	api.Do(func(account *Account) { api.add(account, e) })
}

func (api *API) add(account *Account, e Endpoint) *Endpoint {
	e.ID, e.created = account.id("we_1", 23), account.Now
	api.endpoints = append(api.endpoints, &e)
	return &e
}

// Endpoints returns the current webhook endpoints.
func (api *API) Endpoints() []Endpoint {
	api.mu.Lock()
	defer api.mu.Unlock()
	var all []Endpoint
	for _, e := range api.endpoints {
		all = append(all, *e)
	}
	return all
}

func (api *API) routeEndpoints() {
	api.mux.HandleFunc("GET /v1/webhook_endpoints", func(w http.ResponseWriter, req *http.Request) {
		newest := slices.Clone(api.endpoints)
		slices.Reverse(newest)
		page(w, req, "/v1/webhook_endpoints", "webhook endpoint", newest,
			func(e *Endpoint) entry { return entry{e.ID, e.created, e.object} }, func(*Endpoint) bool { return true })
	})
	api.mux.HandleFunc("POST /v1/webhook_endpoints", func(w http.ResponseWriter, req *http.Request) {
		api.writeEndpoint(w, req, nil)
	})
	api.mux.HandleFunc("POST /v1/webhook_endpoints/{id}", func(w http.ResponseWriter, req *http.Request) {
		at := slices.IndexFunc(api.endpoints, func(e *Endpoint) bool { return e.ID == req.PathValue("id") })
		if at < 0 {
			missing(w, "webhook endpoint", req.PathValue("id"))
			return
		}
		api.writeEndpoint(w, req, api.endpoints[at])
	})
}

// writeEndpoint creates an endpoint and responds with its secret, or changes an endpoint.
func (api *API) writeEndpoint(w http.ResponseWriter, req *http.Request, e *Endpoint) {
	if err := req.ParseForm(); err != nil {
		fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Message: err.Error()})
		return
	}
	enabled := slices.Concat(req.PostForm["enabled_events[]"], indexed(req.PostForm, "enabled_events"))
	for _, eventType := range enabled {
		if eventType != "*" && eventType[len(eventType)-1] == '*' {
			fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Param: "enabled_events", Message: eventType + " is not a supported event type."})
			return
		}
	}
	created := e == nil
	if created {
		if u, err := url.Parse(req.PostForm.Get("url")); err != nil || u.Host == "" || len(enabled) == 0 {
			fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Param: "url", Message: "Missing required param: url or enabled_events."})
			return
		}
		e = api.add(api.of(req), Endpoint{URL: req.PostForm.Get("url"), APIVersion: req.PostForm.Get("api_version")})
	}
	if len(enabled) > 0 {
		e.EnabledEvents = enabled
	}
	if req.PostForm.Has("disabled") {
		e.Disabled = req.PostForm.Get("disabled") == "true"
	}
	o := e.object()
	if created {
		o["secret"] = api.of(req).id("whsec_", 32)
	}
	answer(w, http.StatusOK, o)
}
