package rawjson

import (
	"bytes"
	"unicode/utf8"
)

const (
	// maxDepth is the maximum depth of arrays and objects in encoding/json.
	maxDepth = 10000
	// plainDepth and plainDigits bound a plain text. They are far below the limits of jsonb.
	plainDepth  = 100
	plainDigits = 100
)

// invalid is the end of an invalid value.
const invalid = -1

// Valid returns the same as json.Valid (FuzzRawJSON compares them), in a quarter of the time. The time matters, since every
// delivery's body is validated.
func Valid(doc []byte) bool {
	valid, _ := Walk(doc, 0, nil)
	return valid
}

// Walk validates a text as Valid does. In the same pass it calls visit with each member at most depth objects deep, after
// its value: the members of an object are visited before the object. path has the keys that lead to the member, with nil
// for an array. visit is also called for an invalid text, up to the error.
//
// plain reports whether jsonb accepts the text unchanged: it is ASCII, has no \u escape, no exponent and no long number, and
// does not nest deeply.
func Walk(doc []byte, depth int, visit func(path [][]byte, value []byte)) (valid, plain bool) {
	w := walker{doc: doc, path: make([][]byte, depth), visit: visit}
	end := w.value(w.space(0), 0)
	valid = end != invalid && w.space(end) == len(doc)
	return valid, valid && !w.odd
}

type walker struct {
	doc   []byte
	path  [][]byte // its length is the maximum depth of visits
	visit func(path [][]byte, value []byte)
	odd   bool // not plain
}

// at returns the byte at i, or 0 at the end. JSON contains no zero byte.
func (w *walker) at(i int) byte {
	if i < len(w.doc) {
		return w.doc[i]
	}
	return 0
}

func (w *walker) space(i int) int {
	for i < len(w.doc) && isSpace[w.doc[i]] {
		i++
	}
	return i
}

// value returns the end of the value that begins at i, or invalid. The methods below do the same for their parts.
func (w *walker) value(i, depth int) int {
	switch w.at(i) {
	case '"':
		return w.text(i)
	case '{', '[':
		if depth == maxDepth {
			return invalid
		}
		if depth == plainDepth {
			w.odd = true
		}
		return w.nested(i, depth)
	case 't':
		return w.word(i, "true")
	case 'f':
		return w.word(i, "false")
	case 'n':
		return w.word(i, "null")
	default:
		return w.number(i)
	}
}

func (w *walker) nested(i, depth int) int {
	object := w.doc[i] == '{'
	closing := w.doc[i] + 2 // in ASCII
	if i = w.space(i + 1); w.at(i) == closing {
		return i + 1
	}
	visited := object && depth < len(w.path)
	for {
		if object {
			if i = w.key(i, depth); i == invalid {
				return invalid
			}
		}
		start := i
		if i = w.value(i, depth+1); i == invalid {
			return invalid
		}
		if visited {
			w.visit(w.path[:depth+1], w.doc[start:i])
		}
		switch i = w.space(i); w.at(i) {
		case closing:
			if visited {
				w.path[depth] = nil
			}
			return i + 1
		case ',':
			i = w.space(i + 1)
		default:
			return invalid
		}
	}
}

// key skips a key and its colon, and records the key if its member is visited.
func (w *walker) key(i, depth int) int {
	start := i
	if w.at(i) != '"' {
		return invalid
	}
	if i = w.text(i); i == invalid {
		return invalid
	}
	if depth < len(w.path) {
		w.path[depth] = keyOf(w.doc[start:i])
	}
	if i = w.space(i); w.at(i) != ':' {
		return invalid
	}
	return w.space(i + 1)
}

// keyOf decodes a quoted key.
func keyOf(quoted []byte) []byte {
	key := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(key, '\\') < 0 {
		return key
	}
	decoded, _ := String(quoted)
	return []byte(decoded)
}

func (w *walker) word(i int, word string) int {
	if end := i + len(word); end <= len(w.doc) && string(w.doc[i:end]) == word {
		return end
	}
	return invalid
}

func (w *walker) text(i int) int {
	for i++; ; {
		for i < len(w.doc) && isPlain[w.doc[i]] {
			i++
		}
		switch b := w.at(i); {
		case b == '"':
			return i + 1
		case b == '\\':
			if i = w.escape(i + 1); i == invalid {
				return invalid
			}
		case b >= utf8.RuneSelf:
			w.odd = true
			i++
		default:
			return invalid
		}
	}
}

func (w *walker) escape(i int) int {
	switch w.at(i) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		w.odd = true
		for range 4 {
			if i++; !isHex(w.at(i)) {
				return invalid
			}
		}
		return i + 1
	default:
		return invalid
	}
}

func isHex(b byte) bool { return isDigit(b) || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F' }

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func (w *walker) number(i int) int {
	start := i
	if w.at(i) == '-' {
		i++
	}
	if w.at(i) == '0' {
		i++
	} else if i = w.digits(i); i == invalid {
		return invalid
	}
	if w.at(i) == '.' {
		if i = w.digits(i + 1); i == invalid {
			return invalid
		}
	}
	if b := w.at(i); b == 'e' || b == 'E' {
		w.odd = true
		if i++; w.at(i) == '+' || w.at(i) == '-' {
			i++
		}
		if i = w.digits(i); i == invalid {
			return invalid
		}
	}
	w.odd = w.odd || i-start > plainDigits
	return i
}

// digits skips digits. There must be at least one.
func (w *walker) digits(i int) int {
	if !isDigit(w.at(i)) {
		return invalid
	}
	for isDigit(w.at(i)) {
		i++
	}
	return i
}
