package stripesim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// routeBilling serves the objects that Account.Billing adds: https://docs.stripe.com/api/customers, /products, /prices and
// /invoices.
func (api *API) routeBilling() {
	for _, kind := range []string{"customer", "product", "price", "invoice"} {
		api.mux.HandleFunc("GET /v1/"+kind+"s", func(w http.ResponseWriter, req *http.Request) { api.listStored(w, req, kind) })
		api.mux.HandleFunc("GET /v1/"+kind+"s/{id}", func(w http.ResponseWriter, req *http.Request) { api.getStored(w, req, kind) })
	}
	api.mux.HandleFunc("GET /v1/invoices/{id}/lines", api.listLines)
}

// hasStored reports whether the account has more than subscriptions.
func (a *Account) hasStored() bool { return a.Billing || len(a.stored) > 0 }

// filters are the parameters of lists that compare a member. They are those of one kind or another.
var filters = []string{"active", "currency", "email", "product", "status", "type"}

// listStored lists objects, newest first, without the deleted ones.
func (api *API) listStored(w http.ResponseWriter, req *http.Request, kind string) {
	account, query := api.of(req), req.URL.Query()
	if !account.hasStored() {
		unrecognized(w, req)
		return
	}
	version := stripeobject.Shape(api.version(req))
	ids, keys := slices.Concat(query["ids[]"], indexed(query, "ids")), slices.Concat(query["lookup_keys[]"], indexed(query, "lookup_keys"))
	newest := slices.Clone(account.stored)
	slices.Reverse(newest)
	page(w, req, "/v1/"+kind+"s", kind, newest, func(st stored) entry {
		return entry{st.is().ID, st.is().Created, func() object { return st.final(version, false) }}
	}, func(st stored) bool {
		about := st.is()
		if about.Type != kind || about.Deleted || !api.sees(req, about.AccountID) {
			return false
		}
		return (!query.Has("customer") || query.Get("customer") == about.CustomerID) &&
			(!query.Has("subscription") || query.Get("subscription") == about.SubscriptionID) &&
			(len(ids) == 0 || slices.Contains(ids, about.ID)) && membersFit(query, keys, st, version)
	})
}

// membersFit reports whether the filtered members of an object are as in the query.
func membersFit(query url.Values, lookupKeys []string, st stored, version string) bool {
	var o object // rendered only for a filter
	member := func(name string) string {
		if o == nil {
			o = st.final(version, false)
		}
		return fmt.Sprint(o[name])
	}
	for _, name := range filters {
		if query.Has(name) && query.Get(name) != member(name) {
			return false
		}
	}
	return len(lookupKeys) == 0 || slices.Contains(lookupKeys, member("lookup_key"))
}

// getStored responds with one object. Of the deleted ones only customers can be retrieved.
func (api *API) getStored(w http.ResponseWriter, req *http.Request, kind string) {
	account, id := api.of(req), req.PathValue("id")
	version := stripeobject.Shape(api.version(req))
	if old, found := account.invoices[id]; found && kind == "invoice" && api.sees(req, old.accountID) {
		about, _ := old.render(version)
		answer(w, http.StatusOK, about)
		return
	}
	if st := api.find(req, kind, id); st != nil {
		if render, found := st.behind(api.Lag); found {
			if o := render(version); o["deleted"] == nil || kind == "customer" {
				answer(w, http.StatusOK, o)
				return
			}
		}
	}
	if kind != "invoice" && !account.hasStored() {
		unrecognized(w, req)
		return
	}
	missing(w, kind, id)
}

func (api *API) find(req *http.Request, kind, id string) stored {
	for _, st := range slices.Backward(api.of(req).stored) {
		if about := st.is(); about.ID == id && about.Type == kind && api.sees(req, about.AccountID) {
			return st
		}
	}
	return nil
}

// listLines lists the lines of an invoice: https://docs.stripe.com/api/invoice-line-item/retrieve.
func (api *API) listLines(w http.ResponseWriter, req *http.Request) {
	if !api.of(req).hasStored() {
		unrecognized(w, req)
		return
	}
	id := req.PathValue("id")
	i, found := api.find(req, "invoice", id).(*Invoice)
	if !found || i.about.Deleted {
		missing(w, "invoice", id)
		return
	}
	version := stripeobject.Shape(api.version(req))
	page(w, req, "/v1/invoices/"+id+"/lines", "line_item", i.state.Lines, func(l stripeobject.Line) entry {
		return entry{l.ID, i.about.Created, func() object { return i.state.RenderLine(&l, version) }}
	}, func(stripeobject.Line) bool { return true })
}
