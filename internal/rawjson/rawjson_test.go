package rawjson_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pook/stripeonce/internal/rawjson"
)

// Each of these breaks off or goes wrong somewhere.
var broken = []string{
	``, ` `, `{`, `[`, `"`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `[1,]`, `[,]`, `{,}`, `{1:2}`, `{"a" 1}`, `{"a":}`, `[1 2]`,
	`01`, `-`, `1.`, `.5`, `1e`, `1e+`, `+1`, `0x1`, `1.5e-`, `-a`, `tru`, `nul`, `falsee`, `truefalse`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\`, "\"\n\"", "\"\x00\"", `{}{}`,
	`[1]]`, `"a`, "\x00", "\ufeff{}", `{"a":1}x`, `'a'`, `NaN`,
}

var docs = []string{
	`{}`, `[]`, `{"a":1}`, ` { "a" : [ 1 , "x\"]" , { "b" : null } ] , "c" : "}" , "a" : true } `, `[1,-2.5e3,"\\",[],{}]`,
	`{"\u0061":"\ud83d\ude00","":"","k\\":"\\"}`, "{\"a\":\"\xff\"}", "[\n1,\r\n2\t]", `{"a":{"b":{"c":[[["]"]]]}},"d":0}`,
}

// It finds what encoding/json finds.
func FuzzRawJSON(f *testing.F) {
	for _, doc := range docs {
		f.Add([]byte(doc))
	}
	for _, doc := range broken {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		valid := json.Valid(doc)
		if rawjson.Valid(doc) != valid {
			t.Errorf("%q is valid JSON: %v", doc, valid)
		}
		if !valid {
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

// It gives up on depth where encoding/json does.
func TestValidDepth(t *testing.T) {
	for _, depth := range []int{9999, 10000, 10001} {
		for _, doc := range []string{
			strings.Repeat("[", depth) + strings.Repeat("]", depth),
			strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth),
		} {
			if want := json.Valid([]byte(doc)); rawjson.Valid([]byte(doc)) != want {
				t.Errorf("%.10q… of depth %d is valid JSON: %v", doc, depth, want)
			}
		}
	}
}
