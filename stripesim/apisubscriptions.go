package stripesim

import (
	"net/http"
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

func (api *API) listSubscriptions(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	newest := slices.Clone(api.of(req).Subscriptions)
	slices.Reverse(newest)
	version := stripeobject.Shape(api.version(req))
	page(w, req, "/v1/subscriptions", "subscription", newest, func(s *Subscription) entry {
		return entry{s.ID(), s.state.Created, func() object { return s.state.Render(version) }}
	}, func(s *Subscription) bool {
		return api.sees(req, s.AccountID) && statusFits(query.Get("status"), s.state.Status) && query.Get("test_clock") == s.state.TestClock &&
			(!query.Has("customer") || query.Get("customer") == s.state.Customer)
	})
}

// statusFits is the filter of https://docs.stripe.com/api/subscriptions/list. Without a filter, canceled subscriptions are
// left out.
func statusFits(filter, status string) bool {
	switch filter {
	case "all":
		return true
	case "":
		return status != "canceled"
	case "ended":
		return status == "canceled" || status == "incomplete_expired"
	default:
		return filter == status
	}
}

func (api *API) getSubscription(w http.ResponseWriter, req *http.Request) {
	for _, s := range api.of(req).Subscriptions {
		if s.ID() == req.PathValue("id") && api.sees(req, s.AccountID) {
			state, found := s.behind(api.Lag)
			if !found {
				break
			}
			answer(w, http.StatusOK, state.Render(stripeobject.Shape(api.version(req))))
			return
		}
	}
	missing(w, "subscription", req.PathValue("id"))
}

// listItems lists the items of a subscription: https://docs.stripe.com/api/subscription_items/list.
func (api *API) listItems(w http.ResponseWriter, req *http.Request) {
	id := req.URL.Query().Get("subscription")
	for _, s := range api.of(req).Subscriptions {
		if s.ID() == id && api.sees(req, s.AccountID) {
			version := stripeobject.Shape(api.version(req))
			page(w, req, "/v1/subscription_items", "subscription_item", s.state.Items, func(it stripeobject.Item) entry {
				return entry{it.ID, it.Created, func() object { return s.state.RenderItem(&it, version) }}
			}, func(stripeobject.Item) bool { return true })
			return
		}
	}
	missing(w, "subscription", id)
}
