package stripesim

import "github.com/pook/stripeonce/internal/stripeobject"

// Schedule is a subscription schedule. Its methods change it and create the events of the change. They do nothing where Stripe would
// refuse the change: https://docs.stripe.com/billing/subscriptions/subscription-schedules.
type Schedule struct {
	scheduleResource
}

type scheduleResource struct {
	resource[stripeobject.Schedule, *stripeobject.Schedule]
}

// AddSchedule creates a schedule that begins in a month: status not_started. It is of no subscription yet. That of a subscription is
// created by Subscription.Schedule.
func (c *Customer) AddSchedule() *Schedule {
	return c.schedule(newID(c.account.others, "sub_sched_1", 23), c.version, nil)
}

// schedule adds a schedule with two phases. A nil subscription: it begins later.
func (c *Customer) schedule(id, version string, s *Subscription) *Schedule {
	a := c.account
	st := stripeobject.Schedule{
		ID: id, Customer: c.about.ID, Status: "not_started", EndBehavior: "release", Created: a.Now, Metadata: map[string]string{},
	}
	about, begins, price := c.owns("subscription_schedule", id), a.Now+30*24*hour, catalog[0].Price
	if s != nil {
		st.Status, st.Subscription, about.SubscriptionID = "active", s.state.ID, s.state.ID
		begins, price = s.state.PeriodStart, s.state.Items[0].Price
	}
	for n := range int64(2) {
		st.Phases = append(st.Phases, stripeobject.Phase{Start: begins + 30*24*hour*n, End: begins + 30*24*hour*(n+1), Price: price, Quantity: n + 1})
	}
	sc := &Schedule{scheduleResource{newResource(a, about, version, st)}}
	a.Schedules = append(a.Schedules, sc)
	a.keep(sc)
	sc.event(a.others, "subscription_schedule.created")
	return sc
}

// Status returns the current status: not_started, active, completed, released or canceled.
func (s *Schedule) Status() string { return s.state.Status }

func (s *Schedule) isOpen() bool {
	return s.state.Status == "not_started" || s.state.Status == "active"
}

func (s *Schedule) update(eventType string, change func(*stripeobject.Schedule)) {
	if s.isOpen() {
		s.happen(eventType, change)
	}
}

// SetQuantity sets the quantity of the last phase, of which previous_attributes have all phases.
func (s *Schedule) SetQuantity(quantity int64) {
	s.update("subscription_schedule.updated", func(st *stripeobject.Schedule) { st.Phases[len(st.Phases)-1].Quantity = quantity })
}

// AddPhase adds a phase of a month.
func (s *Schedule) AddPhase() {
	s.update("subscription_schedule.updated", func(st *stripeobject.Schedule) {
		last := st.Phases[len(st.Phases)-1]
		last.Start, last.End = last.End, last.End+30*24*hour
		st.Phases = append(st.Phases, last)
	})
}

// SetMetadata sets a key. An empty value removes it.
func (s *Schedule) SetMetadata(key, value string) {
	s.update("subscription_schedule.updated", func(st *stripeobject.Schedule) { setText(st.Metadata, key, value) })
}

// RemindOfEnd is the reminder seven days before the end: subscription_schedule.expiring.
func (s *Schedule) RemindOfEnd() {
	s.update("subscription_schedule.expiring", func(*stripeobject.Schedule) {})
}

// Cancel cancels a schedule that has not started: subscription_schedule.canceled. Subscription.Delete cancels that of a subscription.
func (s *Schedule) Cancel() {
	if s.state.Status == "not_started" {
		s.end("subscription_schedule.canceled")
	}
}

// end cancels the schedule with an event of a type.
func (s *Schedule) end(eventType string) {
	s.update(eventType, func(st *stripeobject.Schedule) { st.Status, st.CanceledAt = "canceled", s.account.Now })
}

// release ends an active schedule, and leaves its subscription as it is: subscription_schedule.released, or completed after the last
// phase.
func (s *Schedule) release() {
	released := s.account.others.IntN(2) == 0
	if s.state.Status != "active" {
		return
	}
	if !released {
		s.happen("subscription_schedule.completed", func(st *stripeobject.Schedule) { st.Status, st.CompletedAt = "completed", s.account.Now })
		return
	}
	s.happen("subscription_schedule.released", func(st *stripeobject.Schedule) {
		st.Status, st.ReleasedAt, st.ReleasedSubscription, st.Subscription = "released", s.account.Now, st.Subscription, ""
	})
}

// ScheduleObject returns the subscription's newest schedule, or nil if it never had one.
func (s *Subscription) ScheduleObject() *Schedule { return s.schedule }

// endSchedule cancels the schedule of a subscription that ends, or aborts it if the subscription was not paid.
func (s *Subscription) endSchedule() {
	if s.schedule == nil {
		return
	}
	if s.state.Status == "past_due" || s.state.Status == "unpaid" {
		s.schedule.end("subscription_schedule.aborted")
	} else {
		s.schedule.end("subscription_schedule.canceled")
	}
}
