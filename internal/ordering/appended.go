package ordering

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/pook/stripeonce/internal/rawjson"
)

// AppendCanonical appends a text that is the same for objects that are equal to Stripe, as Canonical is, without decoding the
// object: it runs for every event. The texts of the two functions differ. The text must be valid JSON.
func (r Rules) AppendCanonical(to, object []byte) []byte {
	object = bytes.TrimSpace(object)
	if !rawjson.IsObject(object) {
		return r.appendValue(to, object)
	}
	return r.appendObject(to, object, whole)
}

// named is a member of an object.
type named struct {
	key   string
	value []byte
}

// appendValue appends a value within an object.
func (r Rules) appendValue(to, value []byte) []byte {
	switch value[0] {
	case '{':
		return r.appendObject(to, value, nested)
	case '[':
		to = append(to, '[')
		rawjson.Elements(value, func(element []byte) { to = append(r.appendValue(to, element), ',') })
		return append(to, ']')
	case '"':
		if bytes.IndexByte(value, '\\') < 0 {
			return append(to, value...)
		}
		text, _ := rawjson.String(value)
		return rawjson.AppendString(to, text)
	case 't', 'f', 'n':
		return append(to, value...)
	default:
		return append(to, plainNumber(json.Number(value))...)
	}
}

// place is where an object stands.
type place int

const (
	whole  place = iota // it is Stripe's object
	list                // it is one of Rules.Lists
	nested              // it is anything else within
)

// appendObject appends an object with its members sorted, without those that are null. An empty object is an empty array. Of a
// repeated key the last value counts.
func (r Rules) appendObject(to, object []byte, at place) []byte {
	var space [48]named
	members := space[:0]
	sorted := true
	rawjson.Members(object, func(key, value []byte) {
		m := named{string(key), value}
		sorted = sorted && (len(members) == 0 || members[len(members)-1].key < m.key)
		members = append(members, m)
	})
	if !sorted {
		slices.SortStableFunc(members, func(a, b named) int { return strings.Compare(a.key, b.key) })
	}
	begin := len(to)
	to = append(to, '{')
	for i, m := range members {
		if m.value[0] == 'n' || i+1 < len(members) && members[i+1].key == m.key {
			continue
		}
		to = append(rawjson.AppendString(to, m.key), ':')
		switch {
		case at == whole && m.value[0] == '{' && slices.Contains(r.Lists, m.key):
			to = r.appendObject(to, m.value, list)
		case at == list && m.value[0] == '[' && m.key == "data":
			to = r.appendSorted(to, m.value)
		default:
			to = r.appendValue(to, m.value)
		}
		to = append(to, ',')
	}
	if len(to) == begin+1 {
		return append(to[:begin], "[]"...)
	}
	return append(to, '}')
}

// appendSorted appends the elements of a list of Stripe's, sorted by their ids.
func (r Rules) appendSorted(to, data []byte) []byte {
	type element struct {
		id    string
		value []byte
	}
	var elements []element
	rawjson.Elements(data, func(value []byte) {
		e := element{value: value}
		if value[0] == '{' {
			e.id, _ = rawjson.String(rawjson.Get(value, "id"))
		}
		elements = append(elements, e)
	})
	slices.SortStableFunc(elements, func(a, b element) int { return strings.Compare(a.id, b.id) })
	to = append(to, '[')
	for _, e := range elements {
		to = append(r.appendValue(to, e.value), ',')
	}
	return append(to, ']')
}
