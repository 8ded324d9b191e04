package ordering

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// restored puts an update's previous attributes back into its object. In previous attributes, nested hashes hold only
// changed keys, arrays are complete, and null means that a field was not set: the object's own members are then null, and a
// key of a hash, such as of metadata, was not there.
// See https://docs.stripe.com/api/events/object#event_object-data-previous_attributes.
func restored(current, previous any) any {
	now, ok1 := current.(map[string]any)
	old, ok2 := previous.(map[string]any)
	if !ok1 || !ok2 {
		return previous
	}
	return restoredHash(now, old, true)
}

func restoredHash(now, old map[string]any, whole bool) map[string]any {
	result := maps.Clone(now)
	for key, value := range old {
		inner, ok1 := now[key].(map[string]any)
		before, ok2 := value.(map[string]any)
		switch {
		case ok1 && ok2:
			result[key] = restoredHash(inner, before, false)
		case value == nil && !whole:
			delete(result, key)
		default:
			result[key] = value
		}
	}
	return result
}

// Canonical renders a JSON value so that values that are equal to Stripe have the same text: keys are sorted, null is the
// same as a missing member, and numbers are compared by value. An empty object is the same as an empty array, since
// relays in PHP do not keep the difference.
func Canonical(value any) string {
	text, err := json.Marshal(Plain(value))
	if err != nil {
		panic(err) // decoded JSON can be encoded
	}
	return string(text)
}

// Canonical is the function Canonical for an object, with the elements of its lists sorted by id: Stripe may list them in another order in
// each event, and previous attributes do not show that.
func (r Rules) Canonical(value any) string {
	object, ok := value.(map[string]any)
	if !ok {
		return Canonical(value)
	}
	for _, name := range r.Lists {
		list, ok := object[name].(map[string]any)
		if !ok {
			continue
		}
		if elements, ok := list["data"].([]any); ok && len(elements) > 1 {
			list, object = maps.Clone(list), maps.Clone(object)
			list["data"] = slices.SortedStableFunc(slices.Values(elements), func(a, b any) int {
				return strings.Compare(idOf(a), idOf(b))
			})
			object[name] = list
		}
	}
	return Canonical(object)
}

func idOf(element any) string {
	object, _ := element.(map[string]any)
	id, _ := object["id"].(string)
	return id
}

// Plain returns a decoded value without what makes no difference to Stripe: see Canonical.
func Plain(value any) any {
	switch value := value.(type) {
	case map[string]any:
		kept := make(map[string]any, len(value))
		for key, inner := range value {
			if inner != nil {
				kept[key] = Plain(inner)
			}
		}
		if len(kept) == 0 {
			return []any{}
		}
		return kept
	case []any:
		kept := make([]any, len(value))
		for i, inner := range value {
			kept[i] = Plain(inner)
		}
		return kept
	case json.Number:
		return plainNumber(value)
	default:
		return value
	}
}

// plainNumber writes a number without an exponent and without trailing zeros, since jsonb may change how it is written.
func plainNumber(n json.Number) json.Number {
	if n != "-0" && !strings.ContainsAny(n.String(), ".eE") {
		return n
	}
	exact, ok := new(big.Rat).SetString(n.String())
	if !ok { // an exponent of more than a million
		return n
	}
	digits, _ := exact.FloatPrec()
	return json.Number(exact.FloatString(digits))
}

// Decode decodes JSON and keeps numbers as they are written. It returns nil for an empty or malformed text.
func Decode(raw json.RawMessage) any {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	return value
}
