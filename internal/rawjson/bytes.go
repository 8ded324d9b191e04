package rawjson

// What bytes mean, looked up: a text is gone through byte by byte.
var (
	isSpace = [256]bool{' ': true, '\n': true, '\t': true, '\r': true}
	// isPlain is true for the bytes of a string that stand for themselves.
	isPlain = except(func(b byte) bool { return b < ' ' || b == '"' || b == '\\' })
	// isInside is true for what neither opens nor closes anything.
	isInside = except(func(b byte) bool { return b == '"' || b == '{' || b == '}' || b == '[' || b == ']' })
)

func except(special func(byte) bool) (table [256]bool) {
	for b := range table {
		table[b] = !special(byte(b))
	}
	return table
}
