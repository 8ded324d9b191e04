// Package storable changes valid JSON texts so that PostgreSQL's jsonb accepts them.
// See https://www.postgresql.org/docs/current/datatype-json.html for the limits of jsonb.
package storable

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is the maximum depth of arrays and objects. PostgreSQL's parser is limited by max_stack_depth. Stripe's objects
// are about ten levels deep.
const MaxDepth = 512

// maxNumber bounds a number's digits and its exponent. jsonb's numeric overflows at 131,072 digits.
const maxNumber = 1000

// ErrTooDeep reports that a text nests deeper than MaxDepth.
var ErrTooDeep = errors.New("JSON nests deeper than " + strconv.Itoa(MaxDepth) + " levels")

// JSON returns doc, which must be valid JSON, in a form that jsonb accepts. NUL, half a surrogate pair and invalid UTF-8
// become U+FFFD. A number beyond the range of numeric becomes a string. A doc that needs no change is returned unchanged.
func JSON(doc []byte) ([]byte, error) {
	c := cleaner{doc: doc}
	for c.pos < len(doc) {
		switch b := doc[c.pos]; {
		case b == '"':
			c.text()
		case b == '{' || b == '[':
			if c.depth++; c.depth > MaxDepth {
				return nil, ErrTooDeep
			}
			c.pos++
		case b == '}' || b == ']':
			c.depth--
			c.pos++
		case b == '-' || '0' <= b && b <= '9':
			c.number()
		default:
			c.pos++
		}
	}
	return c.result(), nil
}

// cleaner copies doc to out, beginning with the first change.
type cleaner struct {
	doc    []byte
	pos    int
	depth  int
	out    []byte
	copied int // how much of doc is in out
}

func (c *cleaner) result() []byte {
	if c.out == nil {
		return c.doc
	}
	return append(c.out, c.doc[c.copied:]...)
}

// replace replaces the next n bytes.
func (c *cleaner) replace(n int, with string) {
	c.out = append(c.out, c.doc[c.copied:c.pos]...)
	c.out = append(c.out, with...)
	c.pos += n
	c.copied = c.pos
}

// text cleans a string, from quote to quote.
func (c *cleaner) text() {
	c.pos++
	for {
		switch b := c.doc[c.pos]; {
		case b == '"':
			c.pos++
			return
		case b == '\\':
			c.escape()
		case b < utf8.RuneSelf:
			c.pos++
		default:
			if r, size := utf8.DecodeRune(c.doc[c.pos:]); r == utf8.RuneError && size == 1 {
				c.replace(1, `\ufffd`)
			} else {
				c.pos += size
			}
		}
	}
}

const unicodeEscape = len(`\u0000`)

func (c *cleaner) escape() {
	if c.doc[c.pos+1] != 'u' {
		c.pos += 2
		return
	}
	r := c.codeUnit(c.pos)
	switch {
	case r == 0:
		c.replace(unicodeEscape, `\ufffd`)
	case !utf16.IsSurrogate(r):
		c.pos += unicodeEscape
	case utf16.DecodeRune(r, c.codeUnit(c.pos+unicodeEscape)) != utf8.RuneError:
		c.pos += 2 * unicodeEscape
	default:
		c.replace(unicodeEscape, `\ufffd`)
	}
}

// codeUnit reads the \uXXXX at pos. It returns U+FFFD if there is none.
func (c *cleaner) codeUnit(pos int) rune {
	if pos+unicodeEscape > len(c.doc) || c.doc[pos] != '\\' || c.doc[pos+1] != 'u' {
		return utf8.RuneError
	}
	n, err := strconv.ParseUint(string(c.doc[pos+2:pos+unicodeEscape]), 16, 16)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}

func (c *cleaner) number() {
	end, exponent := c.pos, 0
	for ; end < len(c.doc) && isNumber(c.doc[end]); end++ {
		if b := c.doc[end]; b == 'e' || b == 'E' {
			exponent = end + 1
		}
	}
	token := string(c.doc[c.pos:end])
	if len(token) <= maxNumber && (exponent == 0 || smallExponent(string(c.doc[exponent:end]))) {
		c.pos = end
		return
	}
	c.replace(len(token), `"`+token+`"`)
}

func isNumber(b byte) bool {
	return '0' <= b && b <= '9' || b == '-' || b == '+' || b == '.' || b == 'e' || b == 'E'
}

func smallExponent(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && -maxNumber <= n && n <= maxNumber
}
