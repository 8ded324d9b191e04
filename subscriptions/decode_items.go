package subscriptions

import (
	"errors"

	"github.com/pook/stripeonce/internal/rawjson"
)

// itemObject is an item of subscriptionObject.
type itemObject struct {
	ID       text
	Created  int64 // in Unix seconds; 0: not known
	Price    price
	Plan     price // in place of Price before 2020
	Quantity count
	Metadata metadata
	period   // since 2025-03-31.basil
}

var itemReader = newReader([]member[itemObject]{
	{"id", func(o *itemObject, raw []byte) error { return o.ID.read(raw) }},
	{"created", readItemCreated},
	{"price", func(o *itemObject, raw []byte) error { return o.Price.read(raw) }},
	{"plan", func(o *itemObject, raw []byte) error { return o.Plan.read(raw) }},
	{"quantity", func(o *itemObject, raw []byte) error { return o.Quantity.read(raw) }},
	{"metadata", func(o *itemObject, raw []byte) error { return o.Metadata.read(raw) }},
	{"current_period_start", func(o *itemObject, raw []byte) error { return o.Start.read(raw) }},
	{"current_period_end", func(o *itemObject, raw []byte) error { return o.End.read(raw) }},
})

// readItemCreated reads an item's created, which only decides which item is the oldest. A malformed value counts as 0.
func readItemCreated(o *itemObject, raw []byte) error {
	o.Created, _, _ = whole(raw)
	return nil
}

// readItems reads the list of items: null, or an object with the array in data. The list is complete if has_more is
// false, null or missing.
func readItems(o *subscriptionObject, raw []byte) (err error) {
	if isNothing(raw) {
		return nil
	}
	if !rawjson.IsObject(raw) {
		return errNoObject
	}
	var data, more []byte
	rawjson.Members(raw, func(key, value []byte) {
		switch string(key) {
		case "data":
			data = value
		case "has_more":
			more = value
		}
	})
	o.MoreItems = !rawjson.IsNull(more) && string(more) != "false"
	if rawjson.IsNull(data) {
		return nil
	}
	if data[0] != '[' {
		return errors.New("data is not an array")
	}
	rawjson.Elements(data, func(element []byte) {
		var item itemObject
		switch {
		case rawjson.IsObject(element):
			err = errors.Join(err, itemReader.read(element, &item))
		case !rawjson.IsNull(element):
			err = errNoObject
		}
		o.Items = append(o.Items, item)
	})
	return err
}

// dropRepeated removes items with a repeated id: the last one replaces the first one.
func (o *subscriptionObject) dropRepeated() {
	if len(o.Items) < 2 {
		return
	}
	kept := o.Items[:0]
	at := make(map[text]int, len(o.Items))
	for _, item := range o.Items {
		if i, seen := at[item.ID]; seen {
			kept[i] = item
			continue
		}
		at[item.ID] = len(kept)
		kept = append(kept, item)
	}
	o.Items = kept
}

// oldest returns the index of the item that was created first, whatever the order of the list. Among items of the same
// second, the smallest id wins. It returns -1 if there are no items.
func (o *subscriptionObject) oldest() int {
	oldest := -1
	for i := range o.Items {
		if oldest < 0 || o.Items[i].before(&o.Items[oldest]) {
			oldest = i
		}
	}
	return oldest
}

// before reports whether the item is older than another. An item without a creation time counts as newer than any item
// with one.
func (o *itemObject) before(other *itemObject) bool {
	switch {
	case o.Created == other.Created:
		return o.ID < other.ID
	case o.Created == 0 || other.Created == 0:
		return other.Created == 0
	default:
		return o.Created < other.Created
	}
}

func (o *subscriptionObject) items() []Item {
	if len(o.Items) == 0 {
		return nil
	}
	items := make([]Item, len(o.Items))
	for i := range o.Items {
		object := &o.Items[i]
		items[i] = Item{
			ID:                 string(object.ID),
			PriceID:            either(object.Price.ID, object.Plan.ID),
			ProductID:          either(object.Price.Product, object.Plan.Product),
			Quantity:           object.Quantity.n,
			CurrentPeriodStart: either(object.Start.at, o.Start.at),
			CurrentPeriodEnd:   either(object.End.at, o.End.at),
			Metadata:           object.Metadata.orEmpty(),
		}
	}
	return items
}
