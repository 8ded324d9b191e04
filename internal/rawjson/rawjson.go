// Package rawjson takes JSON apart without decoding it: the values of an object's members stay the bytes that
// they are. What it is given must be valid JSON, as Valid says, and nothing else here looks again.
package rawjson

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// IsObject is true for the text of an object, without white space before it.
func IsObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

// IsNull is true for null, and where there is no value.
func IsNull(value []byte) bool { return len(value) == 0 || value[0] == 'n' }

// Members calls visit with the key and the value of each member of an object, in their order. A key that is
// there twice is visited twice.
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

// Get is the value of an object's member, the last one if the key is repeated. Nil if there is none.
func Get(object []byte, name string) (value []byte) {
	Members(object, func(key, v []byte) {
		if string(key) == name {
			value = v
		}
	})
	return value
}

// Elements calls visit with each element of an array, in their order.
func Elements(array []byte, visit func(value []byte)) {
	for i := space(array, 1); array[i] != ']'; i = next(array, i) {
		end := valueEnd(array, i)
		visit(array[i:end])
		i = end
	}
}

// String decodes a string; false if the value is none. Bytes that are not UTF-8 become U+FFFD, as
// encoding/json has it.
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

// space returns where the white space that begins at i ends.
func space(doc []byte, i int) int {
	for isSpace[doc[i]] {
		i++
	}
	return i
}

// next passes the comma after a value, if there is one.
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

// AppendString appends s as a JSON string.
func AppendString(to []byte, s string) []byte {
	for i := range len(s) {
		if !isPlain[s[i]] {
			quoted, _ := json.Marshal(s) // which does not fail for a string
			return append(to, quoted...)
		}
	}
	return append(append(append(to, '"'), s...), '"')
}
