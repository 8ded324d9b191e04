package subscriptions

import (
	"bytes"
	"encoding/json"
)

// restored puts an update's previous attributes back into its object: nested hashes hold only what
// changed, arrays are whole, and null means that a field was not set.
// See https://docs.stripe.com/api/events/object#event_object-data-previous_attributes.
func restored(current, previous any) any {
	now, ok1 := current.(map[string]any)
	old, ok2 := previous.(map[string]any)
	if !ok1 || !ok2 {
		return previous
	}
	result := make(map[string]any, len(now))
	for key, value := range now {
		result[key] = value
	}
	for key, value := range old {
		result[key] = restored(now[key], value)
	}
	return result
}

// canonical renders a JSON value such that two are the same text if they are the same to Stripe: keys in
// order, and null the same as not there.
func canonical(value any) string {
	text, err := json.Marshal(withoutNulls(value))
	if err != nil {
		panic(err) // decoded JSON can be encoded
	}
	return string(text)
}

func withoutNulls(value any) any {
	switch value := value.(type) {
	case map[string]any:
		kept := make(map[string]any, len(value))
		for key, inner := range value {
			if inner != nil {
				kept[key] = withoutNulls(inner)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(value))
		for i, inner := range value {
			kept[i] = withoutNulls(inner)
		}
		return kept
	default:
		return value
	}
}

// decodeAny decodes JSON, numbers as they are written. Nothing at all is nil.
func decodeAny(raw json.RawMessage) any {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	return value
}
