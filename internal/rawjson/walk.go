package rawjson

import (
	"bytes"
	"unicode/utf8"
)

const (
	// maxDepth is how deep encoding/json lets arrays and objects nest.
	maxDepth = 10000
	// plainDepth and plainDigits bound what Walk calls plain: far below what jsonb takes.
	plainDepth  = 100
	plainDigits = 100
)

// invalid is where no value ends.
const invalid = -1

// Valid says what json.Valid says (FuzzRawJSON holds them together) in a quarter of the time, which is of
// weight: a delivery's body is checked whole, and otherwise only looked through.
func Valid(doc []byte) bool {
	valid, _ := Walk(doc, 0, nil)
	return valid
}

// Walk checks a text as Valid does, and in the same pass calls visit with each member that lies at most depth
// objects deep, when its value has been passed: the members of an object come before it. Path has the keys
// that lead to it, nil where an array is passed. A text that turns out to be invalid has had visits too.
//
// Plain is true for a text of nothing but ASCII with no \u escape, no exponent and no long number, that
// nests moderately: jsonb takes it as it is.
func Walk(doc []byte, depth int, visit func(path [][]byte, value []byte)) (valid, plain bool) {
	w := walker{doc: doc, path: make([][]byte, depth), visit: visit}
	end := w.value(w.space(0), 0)
	valid = end != invalid && w.space(end) == len(doc)
	return valid, valid && !w.odd
}

type walker struct {
	doc   []byte
	path  [][]byte // as long as it is visited deep
	visit func(path [][]byte, value []byte)
	odd   bool // not plain
}

// at is the byte at i, 0 at the end: JSON has none of those.
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

// value returns where the value that begins at i ends, or invalid, as those below do for theirs.
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

// key passes a key, notes it if it is visited, and goes on to where its value begins.
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

// keyOf is a key of what stands for it in the text.
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

// digits passes digits, of which there must be one.
func (w *walker) digits(i int) int {
	if !isDigit(w.at(i)) {
		return invalid
	}
	for isDigit(w.at(i)) {
		i++
	}
	return i
}
