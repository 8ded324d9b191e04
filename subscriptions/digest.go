package subscriptions

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"slices"
	"strconv"
	"time"
)

// digest compares two states as sameState does, without reading the stored one. It has three parts: a hash of the whole
// state, of the items, and of the items' ids.
//
// A row without a digest, or with a digest of other fields (an earlier version wrote it), counts as changed once. Its
// items are then written again. The digest of a truncated list covers that list alone, not the items that are kept from
// before.
type digest []byte

const digestPart = 16 // bytes of SHA-256

func digestOf(s *Subscription) digest {
	var ids, items, state canon
	ids.flags(s.ItemsComplete) // a complete list deletes items that a truncated one with the same ids has kept
	ordered := sortedItems(s.Items)
	for i := range ordered {
		ids.text(ordered[i].ID)
		items.item(&ordered[i])
	}
	d := items.sum(nil)
	state.state(s)
	state = append(state, d...)
	return ids.sum(append(state.sum(nil), d...))
}

func (d digest) equal(other digest) bool { return bytes.Equal(d, other) }

func (d digest) sameItems(other digest) bool {
	return len(d) == len(other) && bytes.Equal(d[digestPart:], other[digestPart:])
}

func (d digest) sameItemIDs(other digest) bool {
	return len(d) == len(other) && bytes.Equal(d[2*digestPart:], other[2*digestPart:])
}

// canon is an unambiguous encoding: different lists of values have different texts.
type canon []byte

func (c *canon) sum(to []byte) []byte {
	sum := sha256.Sum256(*c)
	return append(to, sum[:digestPart]...)
}

func (c *canon) text(values ...string) {
	for _, s := range values {
		*c = append(append(strconv.AppendInt(*c, int64(len(s)), 10), ':'), s...)
	}
}

func (c *canon) flags(values ...bool) {
	for _, b := range values {
		*c = strconv.AppendBool(*c, b)
	}
}

func (c *canon) count(n *int64) {
	if n == nil {
		*c = append(*c, '-')
	} else {
		*c = strconv.AppendInt(*c, *n, 10)
	}
	*c = append(*c, ';')
}

func (c *canon) times(values ...*time.Time) {
	for _, at := range values {
		if at == nil {
			c.count(nil)
			continue
		}
		second := at.Unix()
		c.count(&second)
	}
}

func (c *canon) metadata(m map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		c.text(key, m[key])
	}
	*c = append(*c, ';')
}

func (c *canon) item(i *Item) {
	c.text(i.ID, i.PriceID, i.ProductID)
	c.count(i.Quantity)
	c.times(i.CurrentPeriodStart, i.CurrentPeriodEnd)
	c.metadata(i.Metadata)
}

// state adds every field that sameState compares, except the items.
func (c *canon) state(s *Subscription) {
	c.text(s.ID, s.CustomerID, string(s.Status), s.PriceID, s.Currency, s.CollectionMethod, s.LatestInvoiceID, s.AccountID)
	c.count(s.Quantity)
	c.flags(s.CancelAtPeriodEnd, s.Livemode)
	c.times(s.CancelAt, s.CanceledAt, s.EndedAt, s.CurrentPeriodStart, s.CurrentPeriodEnd, s.TrialStart, s.TrialEnd, s.Created)
	c.metadata(s.Metadata)
	c.text(s.PauseCollection.canonical(), s.CustomerAccountID, s.ScheduleID, s.DefaultPaymentMethodID, s.BillingMode)
	c.flags(s.ItemsComplete)
	c.text(s.DiscountIDs...)
}
