package rawjson_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/internal/storable"
)

// broken has malformed texts.
var broken = []string{
	``, ` `, `{`, `[`, `"`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `[1,]`, `[,]`, `{,}`, `{1:2}`, `{"a" 1}`, `{"a":}`, `[1 2]`,
	`01`, `-`, `1.`, `.5`, `1e`, `1e+`, `+1`, `0x1`, `1.5e-`, `-a`, `tru`, `nul`, `falsee`, `truefalse`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\`, "\"\n\"", "\"\x00\"", `{}{}`,
	`[1]]`, `"a`, "\x00", "\ufeff{}", `{"a":1}x`, `'a'`, `NaN`,
}

var docs = []string{
	`{}`, `[]`, `{"a":1}`, ` { "a" : [ 1 , "x\"]" , { "b" : null } ] , "c" : "}" , "a" : true } `, `[1,-2.5e3,"\\",[],{}]`,
	`{"\u0061":"\ud83d\ude00","":"","k\\":"\\"}`, "{\"a\":\"\xff\"}", "[\n1,\r\n2\t]", `{"a":{"b":{"c":[[["]"]]]}},"d":0}`,
}

// FuzzRawJSON compares the results with those of encoding/json.
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
		visits := map[string]string{}
		_, plain := rawjson.Walk(doc, 2, func(path [][]byte, value []byte) {
			visits[string(bytes.Join(path, []byte{'/'}))] = string(value)
		})
		if !valid {
			return
		}
		if stored, err := storable.JSON(doc); plain && (err != nil || !bytes.Equal(stored, doc)) {
			t.Errorf("%q is not plain: %q, %v", doc, stored, err)
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
			for key, value := range got {
				if visits[key] != string(value) {
					t.Errorf("%q: the member %q is %q, want %q", doc, key, visits[key], value)
				}
			}
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

// Valid has the same limit of depth as encoding/json.
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

// A member is visited after its own members, with the path of keys.
func TestWalk(t *testing.T) {
	var got []string
	valid, plain := rawjson.Walk([]byte(` {"a":{"b":{"c":{"d":1}},"e":[{"f":2}]},"g":[{"h":3}],"j":[[{"k":4}]],"\u0069":{}} `), 3, func(path [][]byte, value []byte) {
		got = append(got, fmt.Sprintf("%s=%s", bytes.Join(path, []byte{'/'}), value))
	})
	want := []string{
		`a/b/c={"d":1}`, `a/b={"c":{"d":1}}`, `a/e=[{"f":2}]`, `a={"b":{"c":{"d":1}},"e":[{"f":2}]}`, `g//h=3`, `g=[{"h":3}]`, `j=[[{"k":4}]]`, `i={}`,
	}
	if diff := cmp.Diff(want, got); diff != "" || !valid || plain {
		t.Error(valid, plain, diff)
	}
	for doc, want := range map[string]bool{
		`{"a":[1,-2.5,"x\n",null]}`: true, `{"a":"\u0041"}`: false, `"é"`: false, `1e5`: false, strings.Repeat("1", 101): false, "[\"\x7f\"]": true,
		strings.Repeat("[", 101) + strings.Repeat("]", 101): false, `{`: false,
	} {
		if _, plain := rawjson.Walk([]byte(doc), 0, nil); plain != want {
			t.Errorf("%.20q is plain: %v", doc, plain)
		}
	}
}
