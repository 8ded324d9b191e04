package subscriptions

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"time"
)

// digest tells two states apart, as sameState does, without either being read: the first part is of the whole
// state, the second of its items, the third of their ids. One that was made of other fields, or none, is
// another: the state then counts as changed, once, since the digest that is stored with it is of these fields.
// Its items are written once more. Of a list of items that goes on it is that of the list alone: what else is
// stored stays as it is.
type digest []byte

const digestPart = 16 // bytes of SHA-256

// at is what is stored of a digest: with the revision of the row that it is of. Who writes the row without knowing of
// digests, as an earlier version does in a rolling deployment, moves the revision on.
func (d digest) at(revision int64) []byte {
	return binary.BigEndian.AppendUint64(slices.Clone(d), uint64(revision))
}

// storedDigest is the digest of a row, nil if what it says is of another revision.
func storedDigest(stored []byte, revision int64) digest {
	parts, of := len(stored)-8, binary.BigEndian.AppendUint64(nil, uint64(revision))
	if parts < 0 || !bytes.Equal(stored[parts:], of) {
		return nil
	}
	return digest(stored[:parts])
}

func digestOf(s *Subscription) digest {
	var ids, items, state canon
	ids.flags(s.ItemsComplete) // a whole list deletes what a truncated one of the same items has let stay
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

// canon is a text in which no two lists of values look the same.
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

// state adds what sameState compares, but for the items.
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
