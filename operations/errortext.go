package operations

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// maxNormalized is how many characters of an error its group has.
const maxNormalized = 300

// The placeholders for what differs between errors of one cause. Of an id the prefix is left: cus_….
const (
	someNumber = "<n>"
	someTime   = "<time>"
	someUUID   = "<uuid>"
	someHex    = "<hex>"
	someToken  = "<token>"
	someEmail  = "<email>"
)

// normalize returns an error's text with placeholders for ids, numbers, times and durations, UUIDs, hexadecimal and other long
// tokens, e-mail addresses and quoted strings, as one line, cut to maxNormalized characters. SQLSTATEs, HTTP statuses and the names
// that PostgreSQL quotes (relation "invoices") are left, since they tell causes apart.
func normalize(text string) string {
	n := normalizer{text: text, emails: strings.Contains(text, "@")}
	for n.at < len(n.text) && n.out.Len() < maxNormalized*utf8.UTFMax {
		n.step()
	}
	line := strings.TrimSpace(n.out.String())
	if runes := []rune(line); len(runes) > maxNormalized {
		return string(runes[:maxNormalized]) + "…"
	}
	return line
}

// normalizer reads a text from the left, and writes what stands for it.
type normalizer struct {
	text   string
	at     int
	out    strings.Builder
	word   string // the last word
	emails bool   // there is an @ in the text
}

// step reads one token: a quoted string, a word or number, or another character.
func (n *normalizer) step() {
	rest := n.text[n.at:]
	switch c := rest[0]; {
	case c == '"' || c == '`' || c == '\'' && !n.after(isWord):
		n.quoted(c)
	case isWord(c):
		n.token(rest)
	case c <= ' ':
		if !strings.HasSuffix(n.out.String(), " ") {
			n.out.WriteByte(' ')
		}
		n.at++
	case (c == '-' || c == '+') && len(rest) > 1 && isDigit(rest[1]) && !n.after(func(c byte) bool { return isWord(c) || c == ')' }):
		n.at++ // a sign
	default:
		n.out.WriteByte(c)
		n.at++
	}
}

// after reports whether the character before the current one is of a kind.
func (n *normalizer) after(is func(byte) bool) bool { return n.at > 0 && is(n.text[n.at-1]) }

// put writes what stands for the next characters.
func (n *normalizer) put(length int, placeholder string) {
	n.out.WriteString(placeholder)
	n.at += length
}

// named are the words after which PostgreSQL quotes the name of something in the schema.
var named = []string{
	"relation", "table", "column", "constraint", "index", "function", "procedure", "type", "schema", "role", "sequence", "view", "policy", "trigger",
}

// quoted reads a string in quotes. A quote that nothing closes is a character like any other.
func (n *normalizer) quoted(quote byte) {
	inside := n.text[n.at+1:]
	end := closing(inside, quote)
	switch {
	case end < 0:
		n.put(1, string(quote))
	case quote == '"' && slices.Contains(named, n.word):
		n.put(1, `"`)
		for stop := n.at + end; n.at < stop; {
			n.step()
		}
		n.put(1, `"`)
	default:
		n.put(end+2, string(quote)+"…"+string(quote))
	}
}

// closing returns where a quote is closed, or -1. An apostrophe within a word closes nothing.
func closing(text string, quote byte) int {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote == '"':
			i++
		case text[i] == quote && (quote != '\'' || i+1 == len(text) || !isWord(text[i+1])):
			return i
		}
	}
	return -1
}

// token reads a word, a number, or what consists of several.
func (n *normalizer) token(rest string) {
	word := leading(rest, isWord)
	length, placeholder := len(word), word
	switch {
	case kept(n.word, word):
	case uuid(rest) > 0:
		length, placeholder = uuid(rest), someUUID
	case n.emails && email(rest) > 0:
		length, placeholder = email(rest), someEmail
	case timestamp(rest) > 0:
		length, placeholder = timestamp(rest), someTime
	case duration(rest) > 0:
		length, placeholder = duration(rest), someTime
	case number(rest) >= len(word):
		length, placeholder = number(rest), someNumber
	default:
		placeholder = ofWord(word)
	}
	n.word = word
	n.put(length, placeholder)
}

// kept reports whether a word is a code that tells causes apart, after the word before it.
func kept(before, word string) bool {
	switch before {
	case "SQLSTATE":
		return true
	case "status", "HTTP", "answers", "answered":
		return len(word) == 3 && number(word) == 3 && word[0] >= '1' && word[0] <= '5'
	}
	return false
}

// ofWord returns what stands for a word of letters, digits and underscores.
func ofWord(word string) string {
	digits, letters := false, false
	for i := range len(word) {
		digits, letters = digits || isDigit(word[i]), letters || !isDigit(word[i])
	}
	if prefix := ofID(word); prefix != "" {
		return prefix + "…"
	}
	switch {
	case !digits:
		return word
	case strings.HasPrefix(word, "0x") || len(word) >= 8 && leading(word, isHex) == word && letters:
		return someHex
	case len(word) >= 16 && letters:
		return someToken
	}
	var out strings.Builder
	for len(word) > 0 {
		if n := len(leading(word, isDigit)); n > 0 {
			out.WriteString(someNumber)
			word = word[n:]
			continue
		}
		out.WriteByte(word[0])
		word = word[1:]
	}
	return out.String()
}

// ofID returns the prefix of an id such as cus_NffrFeUfNV2Hib or cs_test_a1b2: parts of small letters alone, before one that has a digit
// or is of mixed letters. Empty for another word.
func ofID(word string) string {
	for at := 0; at < len(word); {
		part, _, more := strings.Cut(word[at:], "_")
		if leading(part, isSmall) != part {
			random := strings.ContainsFunc(part, func(r rune) bool { return r >= '0' && r <= '9' }) ||
				len(part) >= 10 && strings.ToLower(part) != part && strings.ToUpper(part) != part
			if at > 1 && random {
				return word[:at]
			}
			return ""
		}
		if !more {
			return ""
		}
		at += len(part) + 1
	}
	return ""
}

// The following return how long a token at the beginning of a text is; 0: there is none.

func uuid(text string) int {
	at := 0
	for i, length := range []int{8, 4, 4, 4, 12} {
		if i > 0 {
			if !strings.HasPrefix(text[at:], "-") {
				return 0
			}
			at++
		}
		if len(leading(text[at:], isWord)) != length || len(leading(text[at:], isHex)) != length {
			return 0
		}
		at += length
	}
	return at
}

func email(text string) int {
	local := len(leading(text, func(c byte) bool { return isWord(c) || strings.IndexByte(".+-%", c) >= 0 }))
	if !strings.HasPrefix(text[local:], "@") {
		return 0
	}
	host := strings.TrimRight(leading(text[local+1:], func(c byte) bool { return isWord(c) || c == '.' || c == '-' }), ".-")
	if !strings.Contains(host, ".") {
		return 0
	}
	return local + 1 + len(host)
}

// timestamp reads a date, with a time of the day and a zone if these follow: RFC 3339, and PostgreSQL's and Go's forms.
func timestamp(text string) int {
	at := shape(text, "0000-00-00")
	if at == 0 {
		return 0
	}
	clock := 0
	if at < len(text) && (text[at] == 'T' || text[at] == ' ') {
		clock = max(shape(text[at+1:], "00:00:00"), shape(text[at+1:], "00:00"))
	}
	if clock == 0 {
		return at
	}
	at += 1 + clock
	if fraction := leading(strings.TrimPrefix(text[at:], "."), isDigit); strings.HasPrefix(text[at:], ".") && fraction != "" {
		at += 1 + len(fraction)
	}
	for _, zone := range []string{"Z", " +0000 UTC", "+00:00", "-00:00", "+0000", "-0000", "+00", "-00"} {
		if length := shape(text[at:], zone); length > 0 {
			return at + length
		}
	}
	return at
}

// shape returns the length of a pattern in which 0 stands for any digit, if the text begins with it.
func shape(text, pattern string) int {
	if len(text) < len(pattern) {
		return 0
	}
	for i := range len(pattern) {
		if pattern[i] == '0' && !isDigit(text[i]) || pattern[i] != '0' && text[i] != pattern[i] {
			return 0
		}
	}
	return len(pattern)
}

// duration reads a duration as Go writes it: 1h2m3.5s, 250ms.
func duration(text string) (length int) {
	for {
		amount := number(text[length:])
		if amount == 0 {
			return length
		}
		unit := ""
		for _, one := range []string{"ns", "µs", "us", "ms", "h", "m", "s"} {
			if unit == "" && strings.HasPrefix(text[length+amount:], one) {
				unit = one
			}
		}
		end := length + amount + len(unit)
		if unit == "" || end < len(text) && isWord(text[end]) && !isDigit(text[end]) {
			return 0
		}
		length = end
	}
}

// number reads digits, and further ones behind points, commas and colons: an amount, an address, a time of the day.
func number(text string) int {
	at := len(leading(text, isDigit))
	for at > 0 && at+1 < len(text) && strings.IndexByte(".,:", text[at]) >= 0 && isDigit(text[at+1]) {
		at += 1 + len(leading(text[at+1:], isDigit))
	}
	return at
}

// leading returns the characters of a kind with which a text begins.
func leading(text string, is func(byte) bool) string {
	for i := range len(text) {
		if !is(text[i]) {
			return text[:i]
		}
	}
	return text
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isSmall(c byte) bool { return c >= 'a' && c <= 'z' }
func isWord(c byte) bool  { return isDigit(c) || isSmall(c) || c >= 'A' && c <= 'Z' || c == '_' }
func isHex(c byte) bool   { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }
