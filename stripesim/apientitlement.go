package stripesim

import (
	"net/http"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// routeEntitlements serves https://docs.stripe.com/api/entitlements/active-entitlement and /feature.
func (api *API) routeEntitlements() {
	api.mux.HandleFunc("GET /v1/entitlements/active_entitlements", api.listEntitlements)
	api.mux.HandleFunc("GET /v1/entitlements/active_entitlements/{id}", api.getEntitlement)
}

// listEntitlements lists the active entitlements of one customer. Those of a deleted customer are none.
func (api *API) listEntitlements(w http.ResponseWriter, req *http.Request) {
	id := req.URL.Query().Get("customer")
	if id == "" {
		lacks(w, "customer")
		return
	}
	s, found := api.find(req, "entitlements.active_entitlement_summary", id).(*summary)
	if !found {
		fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Code: "resource_missing", Param: "customer", Message: "No such customer: '" + id + "'"})
		return
	}
	now := asOf(s.past, &s.state, api.now(api.of(req)), 0)
	page(w, req, "/v1/entitlements/active_entitlements", "active_entitlement", now.Entitlements, func(e stripeobject.Entitlement) entry {
		return entry{e.ID, 0, e.Render}
	}, func(stripeobject.Entitlement) bool { return true })
}

func (api *API) getEntitlement(w http.ResponseWriter, req *http.Request) {
	id := req.PathValue("id")
	for _, st := range api.storedNow(api.of(req)) {
		s, isSummary := st.(*summary)
		if !isSummary || !api.sees(req, s.about.AccountID) {
			continue
		}
		for _, e := range asOf(s.past, &s.state, api.now(api.of(req)), 0).Entitlements {
			if e.ID == id {
				answer(w, http.StatusOK, e.Render())
				return
			}
		}
	}
	missing(w, "active_entitlement", id)
}

// lacks responds that a request has no value for a required parameter.
func lacks(w http.ResponseWriter, param string) {
	fail(w, http.StatusBadRequest, apiError{Type: invalidRequest, Code: "parameter_missing", Param: param, Message: "Missing required param: " + param + "."})
}
