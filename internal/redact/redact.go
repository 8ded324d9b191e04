// Package redact removes what must not be stored from Stripe's objects.
package redact

import (
	"bytes"
	"encoding/json"

	"github.com/pook/stripeonce/internal/rawjson"
)

// Secrets returns valid JSON without members named client_secret or secret, at any depth.
func Secrets(text json.RawMessage) json.RawMessage {
	if !hasSecret(bytes.TrimSpace(text)) {
		return text
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // as they are written
	var value any
	if err := decoder.Decode(&value); err != nil {
		return text // it is no JSON
	}
	removeSecrets(value)
	clean, err := json.Marshal(value)
	if err != nil {
		panic(err) // decoded JSON can be encoded
	}
	return clean
}

// isSecret reports whether a member is not to be kept.
func isSecret(name string) bool { return name == "client_secret" || name == "secret" }

// hasSecret reports whether a JSON value has such a member, at any depth.
func hasSecret(value []byte) (found bool) {
	if !bytes.Contains(value, []byte("secret")) && !bytes.Contains(value, []byte(`\u`)) {
		return false
	}
	switch value[0] {
	case '{':
		rawjson.Members(value, func(key, member []byte) { found = found || isSecret(string(key)) || hasSecret(member) })
	case '[':
		rawjson.Elements(value, func(element []byte) { found = found || hasSecret(element) })
	}
	return found
}

func removeSecrets(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if isSecret(key) {
				delete(value, key)
			} else {
				removeSecrets(inner)
			}
		}
	case []any:
		for _, inner := range value {
			removeSecrets(inner)
		}
	}
}
