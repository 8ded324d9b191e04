package stripesim

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// paths are where the API has objects of types that it does not have at /v1/ and the plural of their name.
var paths = map[string]string{
	"checkout.session": "/v1/checkout/sessions", "entitlements.feature": "/v1/entitlements/features",
}

// pathOf returns the path of the list of a type.
func pathOf(kind string) string { return cmp.Or(paths[kind], "/v1/"+kind+"s") }

// routeBilling serves the objects beside subscriptions: https://docs.stripe.com/api/customers, /products, /prices, /invoices and so
// on.
func (api *API) routeBilling() {
	for _, kind := range []string{"customer", "product", "price", "invoice", "entitlements.feature"} {
		api.mux.HandleFunc("GET "+pathOf(kind), func(w http.ResponseWriter, req *http.Request) { api.listStored(w, req, kind) })
		api.mux.HandleFunc("GET "+pathOf(kind)+"/{id}", func(w http.ResponseWriter, req *http.Request) { api.getStored(w, req, kind) })
	}
	api.mux.HandleFunc("GET /v1/invoices/{id}/lines", api.listLines)
}

// filters are the parameters of lists that compare a member. They are those of one kind or another.
var filters = []string{"active", "currency", "email", "lookup_key", "product", "status", "type"}

// listStored lists objects, newest first, without the deleted ones.
func (api *API) listStored(w http.ResponseWriter, req *http.Request, kind string) {
	account, query := api.of(req), req.URL.Query()
	now := api.now(account)
	version := stripeobject.Shape(api.version(req))
	ids, keys := slices.Concat(query["ids[]"], indexed(query, "ids")), slices.Concat(query["lookup_keys[]"], indexed(query, "lookup_keys"))
	newest := api.storedNow(account)
	slices.Reverse(newest)
	page(w, req, pathOf(kind), kind, newest, func(st stored) entry {
		return entry{st.is().ID, st.is().Created, func() object { return st.at(now, 0, version) }}
	}, func(st stored) bool {
		about := st.is()
		if about.Type != kind || st.deletedBy(now) || !api.sees(req, about.AccountID) {
			return false
		}
		return (!query.Has("customer") || query.Get("customer") == about.CustomerID) &&
			(!query.Has("subscription") || query.Get("subscription") == about.SubscriptionID) &&
			(len(ids) == 0 || slices.Contains(ids, about.ID)) && membersFit(query, keys, func() object { return st.at(now, 0, version) })
	})
}

// membersFit reports whether the filtered members of an object are as in the query.
func membersFit(query url.Values, lookupKeys []string, render func() object) bool {
	var o object // rendered only for a filter
	member := func(name string) string {
		if o == nil {
			o = render()
		}
		return fmt.Sprint(o[name])
	}
	for _, name := range filters {
		if query.Has(name) && query.Get(name) != member(name) {
			return false
		}
	}
	if query.Has("archived") && query.Get("archived") == member("active") {
		return false
	}
	return len(lookupKeys) == 0 || slices.Contains(lookupKeys, member("lookup_key"))
}

// getStored responds with one object. Of the deleted ones only customers can be retrieved.
func (api *API) getStored(w http.ResponseWriter, req *http.Request, kind string) {
	id := req.PathValue("id")
	if st := api.find(req, kind, id); st != nil {
		if lag, found := api.lag(); found {
			if o := st.at(api.now(api.of(req)), lag, api.version(req)); o["deleted"] == nil || kind == "customer" {
				answer(w, http.StatusOK, o)
				return
			}
		}
	}
	missing(w, kind, id)
}

func (api *API) find(req *http.Request, kind, id string) stored {
	account := api.of(req)
	for _, list := range [][]stored{account.stored, account.replaced} {
		for _, st := range slices.Backward(list) {
			about := st.is()
			if about.ID == id && about.Type == kind && st.exists(api.now(account)) && api.sees(req, about.AccountID) {
				return st
			}
		}
	}
	return nil
}

// listLines lists the lines of an invoice: https://docs.stripe.com/api/invoice-line-item/retrieve.
func (api *API) listLines(w http.ResponseWriter, req *http.Request) {
	id := req.PathValue("id")
	i, found := api.find(req, "invoice", id).(*Invoice)
	now := api.now(api.of(req))
	if !found || i.deletedBy(now) {
		missing(w, "invoice", id)
		return
	}
	version, st := stripeobject.Shape(api.version(req)), asOf(i.past, &i.state, now, 0)
	page(w, req, "/v1/invoices/"+id+"/lines", "line_item", st.Lines, func(l stripeobject.Line) entry {
		return entry{l.ID, i.about.Created, func() object { return st.RenderLine(&l, version) }}
	}, func(stripeobject.Line) bool { return true })
}
