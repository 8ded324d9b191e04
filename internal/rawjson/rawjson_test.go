package rawjson_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pook/stripeonce/internal/rawjson"
)

var docs = []string{
	`{}`, `[]`, `{"a":1}`, ` { "a" : [ 1 , "x\"]" , { "b" : null } ] , "c" : "}" , "a" : true } `, `[1,-2.5e3,"\\",[],{}]`,
	`{"\u0061":"\ud83d\ude00","":"","k\\":"\\"}`, "{\"a\":\"\xff\"}", "[\n1,\r\n2\t]", `{"a":{"b":{"c":[[["]"]]]}},"d":0}`,
}

// It finds what encoding/json finds.
func FuzzRawJSON(f *testing.F) {
	for _, doc := range docs {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if !json.Valid(doc) {
			return
		}
		doc = bytes.TrimSpace(doc)
		var members map[string]json.RawMessage
		var elements []json.RawMessage
		switch doc[0] {
		case '{':
			if !utf8.Valid(doc) {
				return // encoding/json changes its keys
			}
			got := map[string]json.RawMessage{}
			rawjson.Members(doc, func(key, value []byte) { got[string(key)] = value })
			if err := json.Unmarshal(doc, &members); err != nil || !cmp.Equal(members, got) {
				t.Errorf("%q: %v %s", doc, err, cmp.Diff(members, got))
			}
		case '[':
			var got []json.RawMessage
			rawjson.Elements(doc, func(value []byte) { got = append(got, value) })
			if err := json.Unmarshal(doc, &elements); err != nil {
				return
			}
			if len(got) != len(elements) || len(got) > 0 && !cmp.Equal(elements, got) {
				t.Errorf("%q: %s", doc, cmp.Diff(elements, got))
			}
		case '"':
			var want string
			got, ok := rawjson.String(doc)
			if err := json.Unmarshal(doc, &want); err != nil || !ok || got != want {
				t.Errorf("%q is %q, %v, want %q", doc, got, ok, want)
			}
		}
	})
}
