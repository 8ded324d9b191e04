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
	"radar.early_fraud_warning": "/v1/radar/early_fraud_warnings",
}

// pathOf returns the path of the list of a type.
func pathOf(kind string) string { return cmp.Or(paths[kind], "/v1/"+kind+"s") }

// listed are the types of which the API has a list of all objects.
var listed = []string{
	"customer", "product", "price", "invoice", "coupon", "promotion_code", "credit_note", "subscription_schedule", "charge", "payment_intent",
	"setup_intent", "refund", "dispute", "checkout.session", "payout", "entitlements.feature",
}

// absent are types of which the simulation has no objects: their lists are empty.
var absent = []string{
	"plan", "invoiceitem", "invoice_payment", "quote", "tax_rate", "payment_link", "review", "topup", "transfer", "radar.early_fraud_warning",
}

// routeBilling serves the objects beside subscriptions: https://docs.stripe.com/api/customers and so on.
func (api *API) routeBilling() {
	for _, kind := range slices.Concat(listed, absent) {
		api.mux.HandleFunc("GET "+pathOf(kind), func(w http.ResponseWriter, req *http.Request) {
			api.listStored(w, req, kind, func(string) bool { return true })
		})
	}
	for _, kind := range slices.Concat(listed, absent, []string{"payment_method", "tax_id"}) {
		api.mux.HandleFunc("GET "+pathOf(kind)+"/{id}", func(w http.ResponseWriter, req *http.Request) { api.getStored(w, req, kind) })
	}
	api.mux.HandleFunc("GET /v1/invoices/{id}/lines", api.listLines)
	api.mux.HandleFunc("GET /v1/credit_notes/{id}/lines", api.listCreditLines)
	// Payment methods and tax ids are in the lists of their customer.
	api.mux.HandleFunc("GET /v1/payment_methods", func(w http.ResponseWriter, req *http.Request) {
		if !req.URL.Query().Has("customer") {
			lacks(w, "customer")
			return
		}
		api.listStored(w, req, "payment_method", func(string) bool { return true })
	})
	api.mux.HandleFunc("GET /v1/tax_ids", func(w http.ResponseWriter, req *http.Request) {
		owner := req.URL.Query().Get("owner[customer]") // without it, the account's own
		api.listStored(w, req, "tax_id", func(customer string) bool { return customer == owner })
	})
	for _, kind := range []string{"payment_method", "tax_id"} {
		path := "GET /v1/customers/{customer}/" + kind + "s"
		api.mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			api.listStored(w, req, kind, func(customer string) bool { return customer == req.PathValue("customer") })
		})
		api.mux.HandleFunc(path+"/{id}", func(w http.ResponseWriter, req *http.Request) { api.getStored(w, req, kind) })
	}
}

// filters are the parameters of lists that compare a member. They are those of one kind or another.
var filters = []string{
	"active", "charge", "code", "coupon", "currency", "email", "invoice", "lookup_key", "payment_intent", "product", "status", "type",
}

// listStored lists objects, newest first, without the deleted ones, of customers that fit.
func (api *API) listStored(w http.ResponseWriter, req *http.Request, kind string, fits func(customer string) bool) {
	account, query := api.of(req), req.URL.Query()
	now := api.now(account)
	version := stripeobject.Shape(api.version(req))
	ids, keys := slices.Concat(query["ids[]"], indexed(query, "ids")), slices.Concat(query["lookup_keys[]"], indexed(query, "lookup_keys"))
	newest := api.storedNow(account)
	slices.Reverse(newest)
	page(w, req, req.URL.Path, kind, newest, func(st stored) entry {
		return entry{st.is().ID, st.is().Created, func() object { return st.at(now, 0, version) }}
	}, func(st stored) bool {
		about := st.is()
		if about.Type != kind || st.deletedBy(now) || !api.sees(req, about.AccountID) {
			return false
		}
		customer, subscription := st.owner(now)
		return fits(customer) && (!query.Has("customer") || query.Get("customer") == customer) &&
			(!query.Has("subscription") || query.Get("subscription") == subscription) &&
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
		if inner, expanded := o[name].(object); expanded {
			return fmt.Sprint(inner["id"])
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
	for _, st := range slices.Backward(account.byID[kind+" "+id]) {
		if st.exists(api.now(account)) && api.sees(req, st.is().AccountID) {
			return st
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

// listCreditLines lists the lines of a credit note: https://docs.stripe.com/api/credit_notes/lines.
func (api *API) listCreditLines(w http.ResponseWriter, req *http.Request) {
	id := req.PathValue("id")
	n, found := api.find(req, "credit_note", id).(*CreditNote)
	if !found {
		missing(w, "credit_note", id)
		return
	}
	version := stripeobject.Shape(api.version(req))
	page(w, req, req.URL.Path, "credit_note_line_item", n.state.Lines, func(l stripeobject.CreditNoteLine) entry {
		return entry{l.ID, n.about.Created, func() object { return l.Render(version) }}
	}, func(stripeobject.CreditNoteLine) bool { return true })
}
