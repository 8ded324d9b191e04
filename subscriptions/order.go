package subscriptions

const createdType = "customer.subscription.created"

// supersedes decides whether what an event says is newer than what is stored. A terminal status is
// later than any other, whatever the clocks say: nothing brings a canceled subscription back. Otherwise
// the events' seconds decide, and within one second the creation comes first.
// See https://docs.stripe.com/webhooks#even-ordering: Stripe promises no order.
func supersedes(incoming *Subscription, eventType string, stored *Subscription) bool {
	if incoming.Status.Terminal() != stored.Status.Terminal() {
		return incoming.Status.Terminal()
	}
	if stored.LastEventCreatedAt == nil {
		return true
	}
	if incoming.LastEventCreatedAt == nil || incoming.LastEventCreatedAt.Before(*stored.LastEventCreatedAt) {
		return false
	}
	return eventType != createdType || incoming.LastEventCreatedAt.After(*stored.LastEventCreatedAt)
}
