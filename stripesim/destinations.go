package stripesim

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const webhookEndpoint = "webhook_endpoint"

// object renders a destination. The URL and the secret are in it only if a request asks for them.
func (d *Destination) object(include []string, secret string) object {
	o := object{
		"id": d.ID, "object": "v2.core.event_destination", "created": time.Unix(0, 0).UTC().Format(time.RFC3339), "description": "",
		"enabled_events": d.Types, "event_payload": d.Payload, "events_from": d.EventsFrom, "livemode": false, "metadata": object{},
		"name": "a destination", "snapshot_api_version": nil, "status": cmp.Or(d.Status, "enabled"), "status_details": nil,
		"type": cmp.Or(d.Kind, webhookEndpoint), "webhook_endpoint": nil,
	}
	if o["type"] == webhookEndpoint {
		endpoint := object{"url": nil, "signing_secret": nil}
		if slices.Contains(include, "webhook_endpoint.url") {
			endpoint["url"] = d.URL
		}
		if slices.Contains(include, "webhook_endpoint.signing_secret") {
			endpoint["signing_secret"] = secret
		}
		o["webhook_endpoint"] = endpoint
	}
	return o
}

// Destinations returns the current event destinations.
func (api *API) Destinations() []Destination {
	api.mu.Lock()
	defer api.mu.Unlock()
	var all []Destination
	for _, d := range api.destinations {
		all = append(all, *d)
	}
	return all
}

// destinationRequest is the body of a request that creates or updates a destination.
type destinationRequest struct {
	Name            string   `json:"name"`
	Type            string   `json:"type"`
	Payload         string   `json:"event_payload"`
	Types           []string `json:"enabled_events"`
	EventsFrom      []string `json:"events_from"`
	Include         []string `json:"include"`
	WebhookEndpoint struct {
		URL string `json:"url"`
	} `json:"webhook_endpoint"`
}

func (api *API) routeDestinations() {
	const path = "/v2/core/event_destinations"
	api.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, req *http.Request) {
		data := []object{}
		include := indexed(req.URL.Query(), "include")
		for _, d := range api.destinations {
			data = append(data, d.object(include, ""))
		}
		answer(w, http.StatusOK, object{"data": data, "next_page_url": nil, "previous_page_url": nil})
	})
	api.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, req *http.Request) {
		body, ok := readDestination(w, req)
		if !ok {
			return
		}
		u, err := url.Parse(body.WebhookEndpoint.URL)
		if err != nil || u.Host == "" || body.Name == "" || body.Type != webhookEndpoint || body.Payload == "" || len(body.Types) == 0 {
			refuseDestination(w, "name, type, event_payload, enabled_events and webhook_endpoint.url are required.")
			return
		}
		d := &Destination{
			ID: api.of(req).id("ed_test_", 20), URL: body.WebhookEndpoint.URL, Payload: body.Payload, Types: body.Types,
			EventsFrom: body.EventsFrom, Status: "enabled",
		}
		api.destinations = append(api.destinations, d)
		answer(w, http.StatusOK, d.object(body.Include, api.of(req).id("whsec_", 32)))
	})
	api.mux.HandleFunc("POST "+path+"/{id}", func(w http.ResponseWriter, req *http.Request) {
		api.changeDestination(w, req, func(d *Destination, body *destinationRequest) {
			if len(body.Types) > 0 {
				d.Types = body.Types
			}
		})
	})
	api.mux.HandleFunc("POST "+path+"/{id}/enable", func(w http.ResponseWriter, req *http.Request) {
		api.changeDestination(w, req, func(d *Destination, _ *destinationRequest) { d.Status = "enabled" })
	})
}

func (api *API) changeDestination(w http.ResponseWriter, req *http.Request, change func(*Destination, *destinationRequest)) {
	body, ok := readDestination(w, req)
	if !ok {
		return
	}
	for _, d := range api.destinations {
		if d.ID == req.PathValue("id") {
			change(d, body)
			answer(w, http.StatusOK, d.object(body.Include, ""))
			return
		}
	}
	missing(w, "event destination", req.PathValue("id"))
}

// readDestination reads a request's body, which is JSON as everywhere in /v2.
func readDestination(w http.ResponseWriter, req *http.Request) (*destinationRequest, bool) {
	body := &destinationRequest{}
	if req.Header.Get("Content-Type") != "application/json" || json.NewDecoder(req.Body).Decode(body) != nil {
		refuseDestination(w, "The body is not JSON.")
		return nil, false
	}
	for _, eventType := range body.Types {
		if eventType != "*" && (!strings.HasPrefix(eventType, "v1.") && !strings.HasPrefix(eventType, "v2.") || strings.HasSuffix(eventType, "*")) {
			refuseDestination(w, eventType+" is not a type of thin events.")
			return nil, false
		}
	}
	return body, true
}

func refuseDestination(w http.ResponseWriter, message string) {
	fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Message: message})
}
