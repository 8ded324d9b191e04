package rawjson

import "unicode/utf8"

// What bytes mean, looked up: a text is gone through byte by byte.
var (
	isSpace = [256]bool{' ': true, '\n': true, '\t': true, '\r': true}
	// isPlain is true for the ASCII of a string that stands for itself.
	isPlain = except(func(b byte) bool { return b < ' ' || b >= utf8.RuneSelf || b == '"' || b == '\\' })
	// isText is true for what neither ends a string nor escapes.
	isText = except(func(b byte) bool { return b == '"' || b == '\\' })
	// isInside is true for what neither opens nor closes anything.
	isInside = except(func(b byte) bool { return b == '"' || b == '{' || b == '}' || b == '[' || b == ']' })
)

func except(special func(byte) bool) (table [256]bool) {
	for b := range table {
		table[b] = !special(byte(b))
	}
	return table
}
