package ordering

import (
	"testing"
)

// previousOf returns the previous_attributes that Stripe would send, according to its documentation: nested hashes hold
// only changed keys, arrays are complete, and null stands for a field that was not set.
func previousOf(before, after map[string]any) map[string]any {
	previous := map[string]any{}
	for key, old := range before {
		now := after[key]
		if Canonical(old) == Canonical(now) {
			continue
		}
		oldHash, ok1 := old.(map[string]any)
		newHash, ok2 := now.(map[string]any)
		if ok1 && ok2 {
			previous[key] = previousOf(oldHash, newHash)
		} else {
			previous[key] = old
		}
	}
	for key := range after {
		if _, was := before[key]; !was {
			previous[key] = nil
		}
	}
	return previous
}

// FuzzPrevious checks that an object with its previous attributes put back is the object before the update.
func FuzzPrevious(f *testing.F) {
	for _, pair := range [][2]string{
		{`{}`, `{"a":1}`},
		{`{"a":null}`, `{"a":{"b":[]}}`},
		{`{"status":"incomplete","items":{"data":[{"id":"si_1","quantity":1}]}}`, `{"status":"active","items":{"data":[{"id":"si_1","quantity":2}]}}`},
		{`{"metadata":{"a":"1","b":"2"}}`, `{"metadata":{"b":"3","c":"4"}}`},
		{`{"cancellation_details":{"comment":null,"reason":"x"}}`, `{"cancellation_details":{}}`},
		{`{"cancel_at":17,"x":{"y":{"z":1e400}}}`, `{"cancel_at":null,"x":{"y":7}}`},
		{`{"a":{"b":1}}`, `{"a":"text"}`},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		before, ok1 := Decode([]byte(first)).(map[string]any)
		after, ok2 := Decode([]byte(second)).(map[string]any)
		if !ok1 || !ok2 {
			t.Skip()
		}
		previous := previousOf(before, after)
		if got, want := Canonical(restored(after, previous)), Canonical(before); got != want {
			t.Errorf("%s became %s, previously %s: restored to %s", want, Canonical(after), Canonical(previous), got)
		}
	})
}
