package subscriptions

import (
	"bytes"
	"maps"
	"slices"
	"time"
)

// clone returns a copy that shares nothing.
func (s *Subscription) clone() *Subscription {
	c := *s
	for _, at := range []**time.Time{
		&c.CancelAt, &c.CanceledAt, &c.EndedAt, &c.CurrentPeriodStart, &c.CurrentPeriodEnd, &c.TrialStart, &c.TrialEnd,
		&c.Created, &c.LastEventCreatedAt,
	} {
		*at = cloneOf(*at)
	}
	c.Quantity = cloneOf(s.Quantity)
	if c.PauseCollection = cloneOf(s.PauseCollection); c.PauseCollection != nil {
		c.PauseCollection.ResumesAt = cloneOf(c.PauseCollection.ResumesAt)
		c.PauseCollection.Object = bytes.Clone(c.PauseCollection.Object)
	}
	c.DiscountIDs, c.Metadata, c.Object = slices.Clone(s.DiscountIDs), maps.Clone(s.Metadata), bytes.Clone(s.Object)
	c.Items = slices.Clone(s.Items)
	for i := range c.Items {
		item := &c.Items[i]
		item.Quantity, item.Metadata = cloneOf(item.Quantity), maps.Clone(item.Metadata)
		item.CurrentPeriodStart, item.CurrentPeriodEnd = cloneOf(item.CurrentPeriodStart), cloneOf(item.CurrentPeriodEnd)
	}
	return &c
}

func cloneOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	value := *p
	return &value
}
