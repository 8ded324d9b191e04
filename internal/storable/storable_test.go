package storable_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/storable"
)

var cases = []struct{ name, in, want string }{
	{"plain", `{"a":[1,-2.5e3,"x\n\"y\\",null,true,{}]}`, `{"a":[1,-2.5e3,"x\n\"y\\",null,true,{}]}`},
	{"NUL", `"a\u0000b"`, `"a\ufffdb"`},
	{"escaped backslash before u0000", `"a\\u0000b"`, `"a\\u0000b"`},
	{"NUL in a key", `{"\u0000":1}`, `{"\ufffd":1}`},
	{"pair", `"\ud83d\ude00"`, `"\ud83d\ude00"`},
	{"lone high", `"\ud83d"`, `"\ufffd"`},
	{"lone low", `"\ude00x"`, `"\ufffdx"`},
	{"high and no low", `"\ud83d\u0041"`, `"\ufffd\u0041"`},
	{"two highs", `"\ud83d\ud83d\ude00"`, `"\ufffd\ud83d\ude00"`},
	{"reversed", `"\ude00\ud83d"`, `"\ufffd\ufffd"`},
	{"high then NUL", `"\ud83d\u0000"`, `"\ufffd\ufffd"`},
	{"wrong UTF-8", "\"a\xff\xc3b\"", `"a\ufffd\ufffdb"`},
	{"UTF-8", `"é😀"`, `"é😀"`},
	{"large exponent", `[1e999999]`, `["1e999999"]`},
	{"small exponent", `[1e-999999]`, `["1e-999999"]`},
	{"endless exponent", `[1E+99999999999999999999]`, `["1E+99999999999999999999"]`},
	{"many digits", "[" + strings.Repeat("9", 200_000) + "]", `["` + strings.Repeat("9", 200_000) + `"]`},
	{"number alone", `1e5000`, `"1e5000"`},
}

func TestJSON(t *testing.T) {
	t.Parallel()
	for _, c := range cases {
		got, err := storable.JSON([]byte(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: JSON(%.60q) = %.60q, %v, want %.60q", c.name, c.in, got, err, c.want)
		}
	}
	if _, err := storable.JSON([]byte(strings.Repeat("[", 600) + strings.Repeat("]", 600))); !errors.Is(err, storable.ErrTooDeep) {
		t.Errorf("600 levels gave %v", err)
	}
}

// FuzzJSON checks with PostgreSQL that jsonb accepts the result.
func FuzzJSON(f *testing.F) {
	pool := pgtest.NewPool(f)
	for _, c := range cases {
		f.Add([]byte(c.in))
	}
	f.Add([]byte(strings.Repeat("[", storable.MaxDepth) + strings.Repeat("]", storable.MaxDepth)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if !json.Valid(doc) {
			t.Skip()
		}
		clean, err := storable.JSON(doc)
		if err != nil {
			t.Skip()
		}
		if !json.Valid(clean) {
			t.Fatalf("%q became %q, which is no JSON", doc, clean)
		}
		if again, err := storable.JSON(clean); err != nil || !bytes.Equal(again, clean) {
			t.Errorf("%q changes again to %q, %v", clean, again, err)
		}
		pgtest.Exec(t, pool, `SELECT $1::jsonb`, json.RawMessage(clean))
	})
}
