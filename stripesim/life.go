package stripesim

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Life configures simulated life cycles of subscriptions.
type Life struct {
	// Subscriptions is the number of subscriptions.
	Subscriptions int
	// Bursts puts several changes of one subscription into one second, as happens at Stripe.
	Bursts bool
}

const (
	minSteps, maxSteps = 3, 12
	// beginning is the time span in which subscriptions are created.
	beginning = 30 * 24 * time.Hour
	longest   = 20 * 24 * time.Hour // between two steps
)

// step is the time of a change of one subscription.
type step struct {
	at     int64
	sub    int
	begins bool
}

// Live simulates interleaved life cycles of subscriptions, and with Account.Billing also changes the other objects. It returns the
// events in the order in which they were created.
func (a *Account) Live(l Life) []*Event { return a.live(context.Background(), l) }

// live is Live until ctx ends.
func (a *Account) live(ctx context.Context, l Life) []*Event {
	from := len(a.Events)
	subs := make([]*Subscription, l.Subscriptions)
	for _, s := range a.plan(l) {
		if ctx.Err() != nil {
			break
		}
		a.Now = max(a.Now, s.at)
		if s.begins {
			subs[s.sub] = a.begin()
			continue
		}
		subs[s.sub].Step(a.random.IntN(100))
		if a.Billing {
			a.aside(subs[s.sub])
			a.asideOthers(subs[s.sub])
		}
	}
	return a.Events[from:]
}

// plan draws the time of each subscription's steps.
func (a *Account) plan(l Life) []step {
	var steps []step
	for sub := range l.Subscriptions {
		at := a.Now + a.random.Int64N(int64(beginning/time.Second))
		steps = append(steps, step{at, sub, true})
		for range minSteps + a.random.IntN(maxSteps-minSteps+1) {
			at += a.pause(l.Bursts)
			steps = append(steps, step{at, sub, false})
		}
	}
	slices.SortStableFunc(steps, func(x, y step) int { return int(x.at - y.at) })
	return steps
}

// pause draws the time until a subscription's next step, in seconds.
func (a *Account) pause(bursts bool) int64 {
	switch n := a.random.IntN(10); {
	case n < 3 && bursts:
		return 0
	case n < 5:
		return 1 + a.random.Int64N(3)
	default:
		return 1 + a.random.Int64N(int64(longest/time.Second))
	}
}

func (a *Account) begin() *Subscription {
	version := a.version()
	if a.random.IntN(4) == 0 {
		return a.SubscribeTrial(version, 14*24*time.Hour)
	}
	return a.Subscribe(version)
}

// version returns the API version of the events of a new subscription.
func (a *Account) version() string {
	version := VersionBasil
	if a.random.IntN(2) == 0 {
		version = VersionBeforeBasil
	}
	return cmp.Or(a.APIVersion, version)
}

// Step makes a change that fits the status. n, from 0 to 99, selects it.
func (s *Subscription) Step(n int) {
	switch s.state.Status {
	case "incomplete":
		s.choose(n, choice{80, s.Activate}, choice{20, s.Expire})
	case "trialing":
		s.choose(n, choice{40, s.Activate}, choice{20, s.RemindOfTrialEnd}, choice{15, s.label},
			choice{15, s.Pause}, choice{10, s.Delete})
	case "active":
		s.choose(n, choice{19, s.Renew}, choice{8, func() { s.Upgrade(int64(1 + n%9)) }}, choice{10, func() { s.SetQuantity(int64(n)) }},
			choice{8, s.AddItem}, choice{5, s.RemoveItem}, choice{12, s.FailPayment}, choice{8, s.label},
			choice{7, func() { s.CancelAtPeriodEnd(!s.state.CancelAtPeriodEnd) }}, choice{4, s.Delete},
			choice{7, func() { s.pauseOrResume(n) }}, choice{5, s.discount}, choice{4, s.SetPaymentMethod}, choice{3, s.Schedule})
	case "past_due":
		s.choose(n, choice{50, s.Activate}, choice{20, s.MarkUnpaid}, choice{30, s.Delete})
	case "unpaid":
		s.choose(n, choice{60, s.Activate}, choice{40, s.Delete})
	case "paused":
		s.choose(n, choice{70, s.Resume}, choice{30, s.Delete})
	default: // after its end, only the metadata can change
		s.choose(n, choice{30, s.label}, choice{70, func() {}})
	}
}

// pauseOrResume pauses or resumes payment collection.
func (s *Subscription) pauseOrResume(n int) {
	switch {
	case s.state.PauseBehavior != "":
		s.PauseCollection("", 0)
	case n%2 == 0:
		s.PauseCollection("void", 0)
	default:
		s.PauseCollection("keep_as_draft", s.state.PeriodEnd)
	}
}

// discount adds a discount, or removes them if there are two.
func (s *Subscription) discount() {
	if len(s.state.Discounts) < 2 {
		s.AddDiscount()
	} else {
		s.RemoveDiscounts()
	}
}

// choice is an action and its probability in percent.
type choice struct {
	share  int
	action func()
}

func (s *Subscription) choose(n int, choices ...choice) {
	for _, c := range choices {
		if n -= c.share; n < 0 {
			c.action()
			return
		}
	}
}

// label changes the metadata.
func (s *Subscription) label() {
	key := []string{"org", "plan", "note"}[s.account.random.IntN(3)]
	s.SetMetadata(key, s.account.id("", 6))
}
