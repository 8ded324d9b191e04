package ordering

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pook/stripeonce/internal/rawjson"
)

// AppendCanonical appends a text that is the same for objects that are equal to Stripe, as Canonical is, without decoding the
// object: it runs for every event. The texts of the two functions differ. The text must be valid JSON.
func (r Rules) AppendCanonical(to, object []byte) []byte {
	return r.appendBefore(to, object, nil)
}

// appendBefore is AppendCanonical for an object with an update's previous attributes put back: see restored. Previous is a
// JSON object, or nil.
func (r Rules) appendBefore(to, object, previous []byte) []byte {
	if previous != nil && !rawjson.IsObject(object) {
		object = previous
	}
	w := writer{Rules: r, out: to, members: make([]member, 0, 64)}
	w.value(rawjson.NewCursor(object), whole, previous)
	return w.out
}

// writer writes canonical text in one pass: members as they come, which are then brought into order.
type writer struct {
	Rules
	out     []byte
	members []member // of the objects that are being written, the innermost last
	scratch []byte
}

// member is a member of an object as it is written: out[begin:end], which is empty if its value is null.
type member struct {
	key        []byte
	begin, end int
}

// place is where an object stands.
type place int

const (
	whole  place = iota // it is Stripe's object
	list                // it is one of Rules.Lists
	nested              // it is anything else within
)

// within returns the place of a member's value.
func (w *writer) within(at place, key []byte) place {
	if at == whole && slices.Contains(w.Lists, string(key)) {
		return list
	}
	return nested
}

func (w *writer) value(c *rawjson.Cursor, at place, previous []byte) {
	switch c.Kind() {
	case '{':
		w.object(c, at, previous)
	case '[':
		w.out = append(w.out, '[')
		for c.Enter(); c.More(); {
			w.value(c, nested, nil)
			w.out = append(w.out, ',')
		}
		w.out = append(w.out, ']')
	case '"':
		text := c.Skip()
		if bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
			w.out = append(w.out, text...)
			return
		}
		decoded, _ := rawjson.String(text)
		w.out = rawjson.AppendString(w.out, decoded)
	case 't', 'f', 'n':
		w.out = append(w.out, c.Skip()...)
	default:
		number := c.Skip()
		if bytes.ContainsAny(number, ".eE") || string(number) == "-0" {
			number = []byte(plainNumber(json.Number(number)))
		}
		w.out = append(w.out, number...)
	}
}

// object writes an object with its members sorted, without those that are null. An empty object is an empty array. Of a
// repeated key the last value counts.
func (w *writer) object(c *rawjson.Cursor, at place, previous []byte) {
	first, begin := len(w.members), len(w.out)
	w.out = append(w.out, '{')
	before := membersOf(previous)
	for c.Enter(); c.More(); {
		key := c.Key()
		if old := before.take(key); old == nil {
			w.member(key, c, at, nil)
		} else if rawjson.IsObject(old) && c.Kind() == '{' {
			w.member(key, c, at, old)
		} else {
			c.Skip()
			w.member(key, rawjson.NewCursor(old), at, nil)
		}
	}
	for _, m := range before {
		if !m.taken {
			w.member([]byte(m.key), rawjson.NewCursor(m.value), at, nil)
		}
	}
	w.arrange(first, begin+1)
	w.members = w.members[:first]
	if len(w.out) == begin+1 {
		w.out = append(w.out[:begin], "[]"...)
		return
	}
	w.out = append(w.out, '}')
}

func (w *writer) member(key []byte, c *rawjson.Cursor, at place, previous []byte) {
	m := member{key: key, begin: len(w.out)}
	switch c.Kind() {
	case 'n':
		c.Skip()
	default:
		w.out = append(rawjson.AppendString(w.out, key), ':')
		if at == list && c.Kind() == '[' && string(key) == "data" {
			w.sorted(c)
		} else {
			w.value(c, w.within(at, key), previous)
		}
		w.out = append(w.out, ',')
	}
	m.end = len(w.out)
	w.members = append(w.members, m)
}

// arrange sorts the members from the first on, whose text begins at begin.
func (w *writer) arrange(first, begin int) {
	members := w.members[first:]
	byKey := func(a, b member) int { return bytes.Compare(a.key, b.key) }
	sorted := true
	for i := 1; i < len(members) && sorted; i++ {
		sorted = byKey(members[i-1], members[i]) < 0
	}
	if sorted {
		return
	}
	slices.SortStableFunc(members, byKey)
	w.scratch = append(w.scratch[:0], w.out[begin:]...)
	w.out = w.out[:begin]
	for i, m := range members {
		if i+1 == len(members) || byKey(m, members[i+1]) != 0 {
			w.out = append(w.out, w.scratch[m.begin-begin:m.end-begin]...)
		}
	}
}

// sorted writes the elements of a list of Stripe's, sorted by their ids.
func (w *writer) sorted(c *rawjson.Cursor) {
	type element struct {
		id    string
		value []byte
	}
	var elements []element
	for c.Enter(); c.More(); {
		e := element{value: c.Skip()}
		if rawjson.IsObject(e.value) {
			e.id, _ = rawjson.String(rawjson.Get(e.value, "id"))
		}
		elements = append(elements, e)
	}
	slices.SortStableFunc(elements, func(a, b element) int { return strings.Compare(a.id, b.id) })
	w.out = append(w.out, '[')
	for _, e := range elements {
		w.value(rawjson.NewCursor(e.value), nested, nil)
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, ']')
}

// attributes are previous attributes, of which an object has few.
type attributes []attribute

type attribute struct {
	key   string
	value []byte
	taken bool
}

// membersOf returns the members of a JSON object. It returns nil for nil.
func membersOf(object []byte) (all attributes) {
	if object != nil {
		rawjson.Members(object, func(key, value []byte) { all = append(all, attribute{key: string(key), value: value}) })
	}
	return all
}

// take returns the last value of a key, or nil if there is none.
func (all attributes) take(key []byte) (value []byte) {
	for i := range all {
		if all[i].key == string(key) {
			all[i].taken, value = true, all[i].value
		}
	}
	return value
}
