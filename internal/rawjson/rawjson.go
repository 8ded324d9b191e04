// Package rawjson reads the members of JSON objects without decoding their values. Its arguments must be valid JSON. Only
// Valid and Walk check that.
package rawjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// IsObject reports whether a value is an object. It must not begin with white space.
func IsObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

// IsArray reports whether a value is an array.
func IsArray(value []byte) bool { return len(value) > 0 && value[0] == '[' }

// IsNull reports whether a value is null or empty.
func IsNull(value []byte) bool { return len(value) == 0 || value[0] == 'n' }

// Members calls visit with the key and the value of each member of an object, in their order. A repeated key is visited
// each time.
func Members(object []byte, visit func(key, value []byte)) {
	for i := space(object, 1); object[i] != '}'; i = next(object, i) {
		end := text(object, i)
		key := keyOf(object[i:end])
		i = space(object, end) // the colon
		i = space(object, i+1) // the value
		end = valueEnd(object, i)
		visit(key, object[i:end])
		i = end
	}
}

// Get returns the value of an object's member, or nil if there is none. If the key is repeated, it returns the last value.
func Get(object []byte, name string) (value []byte) {
	Members(object, func(key, v []byte) {
		if string(key) == name {
			value = v
		}
	})
	return value
}

// IsTrue reports whether a value is an object that has a member with the value true. It is fast if the member's name does not occur.
func IsTrue(value []byte, name string) bool {
	return bytes.Contains(value, []byte(name)) && IsObject(value) && string(Get(value, name)) == "true"
}

// Elements calls visit with each element of an array, in their order.
func Elements(array []byte, visit func(value []byte)) {
	for i := space(array, 1); array[i] != ']'; i = next(array, i) {
		end := valueEnd(array, i)
		visit(array[i:end])
		i = end
	}
}

// String decodes a string. It returns false if the value is not a string. Invalid UTF-8 becomes U+FFFD, as in encoding/json.
func String(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), true
	}
	var decoded string
	err := json.Unmarshal(value, &decoded)
	return decoded, err == nil
}

// space returns the end of the white space that begins at i.
func space(doc []byte, i int) int {
	for isSpace[doc[i]] {
		i++
	}
	return i
}

// next skips the comma after a value, if there is one.
func next(doc []byte, i int) int {
	i = space(doc, i)
	if doc[i] == ',' {
		i = space(doc, i+1)
	}
	return i
}

// text returns the end of the string that begins at i.
func text(doc []byte, i int) int {
	for i++; ; i += 2 {
		for isText[doc[i]] {
			i++
		}
		if doc[i] == '"' {
			return i + 1
		}
	}
}

// valueEnd returns the end of the value that begins at i.
func valueEnd(doc []byte, i int) int {
	switch doc[i] {
	case '"':
		return text(doc, i)
	case '{', '[':
		return nestedEnd(doc, i)
	}
	for ; i < len(doc); i++ {
		switch doc[i] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			return i
		}
	}
	return i
}

func nestedEnd(doc []byte, i int) int {
	for depth := 0; ; {
		for isInside[doc[i]] {
			i++
		}
		switch doc[i] {
		case '"':
			i = text(doc, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		i++
		if depth == 0 {
			return i
		}
	}
}

// AppendString appends s as a JSON string, with as few escapes as JSON needs: a string of PostgreSQL's jsonb, which has the same,
// stays as it is. Invalid UTF-8 becomes U+FFFD.
func AppendString[T string | []byte](to []byte, s T) []byte {
	to = append(to, '"')
	plain := 0 // s[plain:i] is still to be appended
	for i := 0; i < len(s); {
		switch b := s[i]; {
		case isPlain[b]:
			i++
			continue
		case b >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			to = append(append(to, s[plain:i]...), "\uFFFD"...)
		case b == '"' || b == '\\':
			to = append(append(to, s[plain:i]...), '\\', b)
		default:
			to = fmt.Appendf(append(to, s[plain:i]...), `\u%04x`, b)
		}
		i++
		plain = i
	}
	return append(append(to, s[plain:]...), '"')
}

// Cursor reads a JSON text once, from front to back. Each of its methods requires what its comment says of the position.
type Cursor struct {
	doc []byte
	at  int
}

// NewCursor returns a cursor at a value.
func NewCursor(value []byte) *Cursor { return &Cursor{value, space(value, 0)} }

// Kind returns the first byte of the value at the cursor.
func (c *Cursor) Kind() byte { return c.doc[c.at] }

// Enter goes from an object or an array to its first member or element, or to its end.
func (c *Cursor) Enter() { c.at = space(c.doc, c.at+1) }

// More reports whether the cursor is at a member or an element. At the end of an object or an array, it leaves that.
func (c *Cursor) More() bool {
	switch c.at = next(c.doc, c.at); c.doc[c.at] {
	case '}', ']':
		c.at++
		return false
	}
	return true
}

// Key goes from a member to its value, and returns the key.
func (c *Cursor) Key() []byte {
	end := text(c.doc, c.at)
	key := keyOf(c.doc[c.at:end])
	c.at = space(c.doc, space(c.doc, end)+1) // after the colon
	return key
}

// Skip goes behind the value at the cursor, and returns it.
func (c *Cursor) Skip() []byte {
	begin := c.at
	c.at = valueEnd(c.doc, begin)
	return c.doc[begin:c.at]
}
