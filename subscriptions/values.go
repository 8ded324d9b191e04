package subscriptions

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/pook/stripeonce/internal/rawjson"
)

var errNoObject = errors.New("not an object")

// isNothing reports whether a value in place of an object is null, missing, or an empty array, as PHP encodes an empty
// object.
func isNothing(raw []byte) bool { return rawjson.IsNull(raw) || isEmptyArray(raw) }

func isEmptyArray(raw []byte) bool {
	return raw[0] == '[' && len(bytes.TrimSpace(raw[1:len(raw)-1])) == 0
}

// text is a string or null. PostgreSQL's text holds no NUL, and the event has been cleaned of it.
type text string

func (t *text) read(raw []byte) error {
	s, ok := rawjson.String(raw)
	if !ok && !rawjson.IsNull(raw) {
		return errors.New("not a string")
	}
	*t = text(s)
	return nil
}

// flag is a boolean or null.
type flag bool

func (f *flag) read(raw []byte) error {
	*f = string(raw) == "true"
	if !bool(*f) && string(raw) != "false" && !rawjson.IsNull(raw) {
		return errors.New("not a boolean")
	}
	return nil
}

// reference is an id, the expanded object of that id (deleted or not), or null.
type reference string

func (r *reference) read(raw []byte) error {
	if isNothing(raw) {
		return nil
	}
	if rawjson.IsObject(raw) {
		raw = rawjson.Get(raw, "id")
	}
	return (*text)(r).read(raw)
}

// read takes a price or a plan: an object, its id alone, or null.
func (p *price) read(raw []byte) error {
	if isNothing(raw) {
		return nil
	}
	if !rawjson.IsObject(raw) {
		return (*text)(&p.ID).read(raw)
	}
	return errors.Join(
		(*text)(&p.ID).read(rawjson.Get(raw, "id")),
		(*reference)(&p.Product).read(rawjson.Get(raw, "product")),
	)
}

// textOrMember returns a text, or the named text member of an object, such as the id of an expanded object. It returns ""
// for anything else.
func textOrMember(raw []byte, name string) string {
	if rawjson.IsObject(raw) {
		raw = rawjson.Get(raw, name)
	}
	s, _ := rawjson.String(raw)
	return s
}

// readIDs reads an array of ids and expanded objects, in its order. Elements without an id are left out.
func readIDs(raw []byte) (ids []string) {
	if rawjson.IsNull(raw) || raw[0] != '[' {
		return nil
	}
	rawjson.Elements(raw, func(element []byte) {
		if id := textOrMember(element, "id"); id != "" {
			ids = append(ids, id)
		}
	})
	return ids
}

// count is a whole number or null.
type count struct{ n *int64 }

func (c *count) read(raw []byte) error {
	n, known, err := whole(raw)
	if known {
		number := n
		c.n = &number
	}
	return err
}

// unixTime is a time in Unix seconds, or null.
type unixTime struct{ at *time.Time }

func (u *unixTime) read(raw []byte) error {
	seconds, known, err := whole(raw)
	if err != nil || !known {
		return err
	}
	if seconds < 0 || seconds > maxSecond {
		return errors.New("not a time in Unix seconds")
	}
	at := time.Unix(seconds, 0).UTC()
	u.at = &at
	return nil
}

// whole reads a 64-bit integer, also written as 1e3 or 5.0. known is false for null.
func whole(raw []byte) (n int64, known bool, err error) {
	if rawjson.IsNull(raw) {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(string(raw), 10, 64)
	if err == nil {
		return n, true, nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<63 {
		return 0, false, errors.New("not a whole number of 64 bits")
	}
	return int64(f), true, nil
}

// metadata holds strings. A value of another type is kept as its JSON text. An array counts as an object with the keys 0,
// 1, 2 and so on, since PHP encodes such an object, and an empty one, as an array.
type metadata map[string]string

func (m *metadata) read(raw []byte) error {
	switch {
	case rawjson.IsNull(raw):
	case rawjson.IsObject(raw):
		*m = metadata{}
		rawjson.Members(raw, func(key, value []byte) { (*m)[string(key)] = textOf(value) })
	case raw[0] == '[':
		*m = metadata{}
		rawjson.Elements(raw, func(value []byte) { (*m)[strconv.Itoa(len(*m))] = textOf(value) })
	default:
		return errNoObject
	}
	return nil
}

// textOf returns a string, or the JSON text of another value.
func textOf(value []byte) string {
	if s, ok := rawjson.String(value); ok {
		return s
	}
	return compact(value)
}

// compact returns a value's JSON text without white space.
func compact(value []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return string(value)
	}
	return b.String()
}

func (m metadata) orEmpty() map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
