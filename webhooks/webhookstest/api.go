package webhookstest

import (
	"net/http/httptest"
	"testing"

	"github.com/pook/stripeonce/stripesim"
)

// APIKey is an API key for a receiver whose Config.APIBase is an API's URL.
const APIKey = "sk_test_webhookstest"

// API is a part of Stripe's API, from which a receiver fetches: the events and objects of a simulated account, and those that a
// test sets (API.Set, API.Add). Create it with NewAPI.
type API struct {
	*stripesim.API
	// URL is for Config.APIBase.
	URL string
}

// NewAPI serves the API of an account, such as a stripesim.Simulation's NewAccount, until the test ends. Nil: an account without
// objects. The receiver needs Config.APIBase and APIKey.
func NewAPI(tb testing.TB, account *stripesim.Account) *API {
	tb.Helper()
	if account == nil {
		account = stripesim.New(0, stripesim.Epoch)
	}
	api := &API{API: stripesim.NewAPI(account)}
	server := httptest.NewServer(api)
	tb.Cleanup(server.Close)
	api.URL = server.URL
	return api
}

// Add makes a thin event available, whole, to a receiver that received it Bare. The event gets an id if it has none.
func (api *API) Add(ev *ThinEvent) {
	if ev.ID == "" {
		ev.ID = NewID("evt")
	}
	api.Set("/v2/core/events/"+ev.ID, ev.object())
}
