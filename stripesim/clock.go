package stripesim

import "slices"

// During deliveries, the API must not know more than Stripe would: a whole wave of events exists before the first one is
// delivered. So its clock, and the objects and events that it has, are then those of the second of the newest event whose delivery
// has begun. Before and after deliveries they are the account's.

// hold stops the clocks of the accounts of a plan before its first event. The caller has the lock.
func (api *API) hold(plan []Delivery) {
	for account := range accountsOf(plan) {
		if _, held := api.clocks[account]; held {
			continue
		}
		oldest := account.Now
		for _, d := range plan {
			if d.Event.account == account {
				oldest = min(oldest, d.Event.Created)
			}
		}
		if api.clocks == nil {
			api.clocks = map[*Account]int64{}
		}
		api.clocks[account] = oldest - 1
	}
}

// begin moves the clock of an event's account to the event, unless it is there already.
func (api *API) begin(ev *Event) {
	api.mu.Lock()
	defer api.mu.Unlock()
	if at, held := api.clocks[ev.account]; held {
		api.clocks[ev.account] = max(at, ev.Created)
	}
}

// release sets the clocks of the accounts of a plan to the accounts' own.
func (api *API) release(plan []Delivery) {
	api.mu.Lock()
	defer api.mu.Unlock()
	for account := range accountsOf(plan) {
		delete(api.clocks, account)
	}
}

func accountsOf(plan []Delivery) map[*Account]bool {
	accounts := map[*Account]bool{}
	for _, d := range plan {
		if d.Event.account != nil { // an event of a test's own has none
			accounts[d.Event.account] = true
		}
	}
	return accounts
}

// now returns the clock of an account.
func (api *API) now(account *Account) int64 {
	if at, held := api.clocks[account]; held {
		return at
	}
	return account.Now
}

// lag calls Lag. It returns false if the object is not to be found.
func (api *API) lag() (n int, found bool) {
	if api.Lag != nil {
		n = api.Lag()
	}
	return n, n >= 0
}

// storedNow returns the objects beside subscriptions that exist, oldest first.
func (api *API) storedNow(account *Account) []stored {
	var all []stored
	for _, st := range slices.Concat(account.replaced, account.stored) {
		if st.exists(api.now(account)) {
			all = append(all, st)
		}
	}
	return all
}

// stateNow returns the state of a subscription, or false if it does not exist yet.
func (api *API) stateNow(s *Subscription, lag int) (st *subscriptionState, exists bool) {
	now := api.now(s.account)
	return asOf(s.past, &s.state, now, lag), s.state.Created <= now
}
