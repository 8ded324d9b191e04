package stripesim

import (
	"net/http"
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

type subscriptionState = stripeobject.Subscription

func (api *API) listSubscriptions(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	newest := slices.Clone(api.of(req).Subscriptions)
	slices.Reverse(newest)
	version := stripeobject.Shape(api.version(req))
	page(w, req, "/v1/subscriptions", "subscription", newest, func(s *Subscription) entry {
		st, _ := api.stateNow(s, 0)
		return entry{s.ID(), st.Created, func() object { return st.Render(version) }}
	}, func(s *Subscription) bool {
		st, exists := api.stateNow(s, 0)
		return exists && api.sees(req, s.AccountID) && statusFits(query.Get("status"), st.Status) && query.Get("test_clock") == s.state.TestClock &&
			(!query.Has("customer") || query.Get("customer") == st.Customer)
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
		if s.ID() != req.PathValue("id") || !api.sees(req, s.AccountID) {
			continue
		}
		lag, found := api.lag()
		if st, exists := api.stateNow(s, lag); found && exists {
			answer(w, http.StatusOK, st.Render(stripeobject.Shape(api.version(req))))
			return
		}
	}
	missing(w, "subscription", req.PathValue("id"))
}

// listItems lists the items of a subscription: https://docs.stripe.com/api/subscription_items/list.
func (api *API) listItems(w http.ResponseWriter, req *http.Request) {
	id := req.URL.Query().Get("subscription")
	for _, s := range api.of(req).Subscriptions {
		if st, exists := api.stateNow(s, 0); exists && s.ID() == id && api.sees(req, s.AccountID) {
			version := stripeobject.Shape(api.version(req))
			page(w, req, "/v1/subscription_items", "subscription_item", st.Items, func(it stripeobject.Item) entry {
				return entry{it.ID, it.Created, func() object { return st.RenderItem(&it, version) }}
			}, func(stripeobject.Item) bool { return true })
			return
		}
	}
	missing(w, "subscription", id)
}
