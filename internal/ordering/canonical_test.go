package ordering

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/stripesim"
)

// shuffled writes a value with its members in another order, some of those that are null left out, others added, and strings
// escaped.
func shuffled(random *rand.Rand, value any) []byte {
	switch value := value.(type) {
	case map[string]any:
		if len(value) == 0 && random.IntN(2) == 0 {
			return []byte("[]")
		}
		keys := slices.Collect(maps.Keys(value))
		slices.Sort(keys)
		random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		var members [][]byte
		for _, key := range keys {
			if value[key] == nil && random.IntN(2) == 0 {
				continue
			}
			name, _ := json.Marshal(key)
			members = append(members, append(append(name, ':', ' '), shuffled(random, value[key])...))
		}
		if random.IntN(4) == 0 {
			members = append(members, []byte(`"absent":null`))
		}
		return slices.Concat([]byte("{ "), joined(members), []byte("}"))
	case []any:
		var elements [][]byte
		for _, element := range value {
			elements = append(elements, shuffled(random, element))
		}
		return slices.Concat([]byte("["), joined(elements), []byte(" ]"))
	case string:
		if random.IntN(2) == 0 {
			escaped := []byte{'"'}
			for _, letter := range value {
				text, _ := json.Marshal(string(letter))
				if letter != '"' && letter < 0xffff && random.IntN(2) == 0 {
					text = fmt.Appendf(nil, `"\u%04x"`, letter)
				}
				escaped = append(escaped, text[1:len(text)-1]...)
			}
			return append(escaped, '"')
		}
		return rawjson.AppendString(nil, value) // as jsonb has it
	}
	text, _ := json.Marshal(value)
	return text
}

func joined(parts [][]byte) (all []byte) {
	for i, part := range parts {
		if i > 0 {
			all = append(all, ',')
		}
		all = append(all, part...)
	}
	return all
}

// drawValue draws a JSON value from few different ones, so that equal values occur.
func drawValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kinds := 5
		if depth > 0 {
			kinds = 8
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return json.Number(rapid.SampledFrom([]string{"0", "-0", "1", "1.0", "1e0", "100", "1e2", "1.50", "1.5", "12345678901234567890"}).Draw(t, "number"))
		case 3, 4:
			return rapid.SampledFrom([]string{"", "a", "é", "<&>", "é<&>\u2028", "\"é", "\n", "\x7f€"}).Draw(t, "text")
		case 5:
			return rapid.SliceOfN(drawValue(depth-1), 0, 3).Draw(t, "array")
		default:
			return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "id", "data", "é", "items"}), drawValue(depth-1), 0, 4).Draw(t, "object")
		}
	})
}

// Two objects have the same appended text if and only if they have the same canonical one. The second is the first in another
// form, then with one of its members drawn anew, often to an equal value.
func TestAppendCanonical(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		members := []string{"a", "items", "id"}
		one := rapid.MapOfN(rapid.SampledFrom(members), drawValue(3), 0, 3).Draw(t, "one")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		a := shuffled(random, one)
		same := func(b []byte) bool {
			canonical := subscription.Canonical(Decode(a)) == subscription.Canonical(Decode(b))
			if appended := string(subscription.AppendCanonical(nil, a)) == string(subscription.AppendCanonical(nil, b)); appended != canonical {
				t.Fatalf("%s and %s have the same appended text: %v, the same canonical text: %v", a, b, appended, canonical)
			}
			return canonical
		}
		if b := shuffled(random, one); !same(b) {
			t.Fatalf("%s is not %s", a, b)
		}
		two := maps.Clone(one)
		two[rapid.SampledFrom(members).Draw(t, "member")] = drawValue(3).Draw(t, "value")
		same(shuffled(random, two))
	})
}

// The text of an object with previous attributes put back is that of the object that restored returns.
func TestAppendBefore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		object := func(label string) map[string]any {
			return rapid.MapOfN(rapid.SampledFrom([]string{"a", "items", "id"}), drawValue(3), 0, 3).Draw(t, label)
		}
		now, previous := object("object"), object("previous")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		before, err := json.Marshal(restored(any(now), any(previous)))
		if err != nil {
			t.Fatal(err)
		}
		attributes, err := json.Marshal(previous)
		if err != nil {
			t.Fatal(err)
		}
		got := string(subscription.appendBefore(nil, shuffled(random, now), attributes))
		if want := string(subscription.AppendCanonical(nil, before)); got != want {
			t.Fatalf("%v with %v put back is %s, want %s", now, previous, got, want)
		}
	})
}

// BenchmarkAppendCanonical writes an invoice of 5 kB.
func BenchmarkAppendCanonical(b *testing.B) {
	account := stripesim.New(1, stripesim.Epoch)
	account.Subscribe(stripesim.VersionBasil)
	object := account.Events[0].Body
	b.SetBytes(int64(len(object)))
	b.ReportAllocs()
	var to []byte
	for b.Loop() {
		to = subscription.AppendCanonical(to[:0], object)
	}
}
