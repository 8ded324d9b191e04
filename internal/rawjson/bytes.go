package rawjson

import "unicode/utf8"

// Tables of byte classes, for scanning a text byte by byte.
var (
	isSpace = [256]bool{' ': true, '\n': true, '\t': true, '\r': true}
	// isPlain has the ASCII characters that stand for themselves in a string.
	isPlain = except(func(b byte) bool { return b < ' ' || b >= utf8.RuneSelf || b == '"' || b == '\\' })
	// isText has the bytes that neither end a string nor begin an escape.
	isText = except(func(b byte) bool { return b == '"' || b == '\\' })
	// isInside has the bytes that neither open nor close a string, an array or an object.
	isInside = except(func(b byte) bool { return b == '"' || b == '{' || b == '}' || b == '[' || b == ']' })
)

func except(special func(byte) bool) (table [256]bool) {
	for b := range table {
		table[b] = !special(byte(b))
	}
	return table
}
