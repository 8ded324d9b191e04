package ordering

import (
	"testing"

	"pgregory.net/rapid"
)

// However the events of a second arrive, with the set stored as Lean returns it in between, the last event and its object are
// those of the set that is kept whole.
func TestLean(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 99), 1, 7).Draw(t, "steps")
		events, _ := burst(t, rapid.Uint64().Draw(t, "seed"), steps, rapid.Bool().Draw(t, "with the creation"))
		var whole, lean []Occurrence
		var row Occurrence
		for _, o := range rapid.Permutation(events).Draw(t, "arrival") {
			whole = With(whole, o)
			lean = subscription.Stepped(With(withObject(lean, row), o))
			want, settled := subscription.Last(whole)
			var got bool
			if row, got = subscription.Last(lean); row.ID != want.ID || got != settled {
				t.Fatalf("the last is %s, %v, want %s, %v", row.ID, got, want.ID, settled)
			}
			if subscription.Digest(row.Object) != subscription.Digest(want.Object) {
				t.Fatalf("its object is\n%s\nwant\n%s", row.Object, want.Object)
			}
			lean = Lean(lean, row.ID)
		}
		for i, o := range Derive(withObject(lean, row)) {
			if subscription.Digest(o.Object) != subscription.Digest(whole[i].Object) {
				t.Fatalf("the object of %s is\n%s\nwant\n%s", o.ID, o.Object, whole[i].Object)
			}
		}
	})
}

func withObject(set []Occurrence, row Occurrence) []Occurrence {
	for i := range set {
		if set[i].ID == row.ID {
			set[i].Object = row.Object
		}
	}
	return set
}

// A chain of changes is stored without any object.
func TestLeanOfAChain(t *testing.T) {
	t.Parallel()
	var set []Occurrence
	for i, text := range []string{"+a", "a>b", "b>c", "c>d", "=d"} {
		set = With(set, byHand(string(rune('e'+i)), text))
	}
	for _, o := range Lean(subscription.Stepped(set), "h") {
		if o.Object != nil {
			t.Errorf("%s is stored with %s", o.ID, o.Object)
		}
	}
	kept := 0
	for _, o := range Lean(subscription.Stepped(set), "f") { // the states after b lead back to each other, not to b
		if o.Object != nil {
			kept++
		}
	}
	if kept != 2 {
		t.Errorf("%d objects are stored, want those of c and of d", kept)
	}
}

// A derived object has no key in a hash that was not there: metadata would show it.
func TestDerivedHash(t *testing.T) {
	t.Parallel()
	object := before([]byte(`{"id":"x","default_source":"card_1","metadata":{"k":"1","m":"2"}}`), []byte(`{"metadata":{"k":null},"default_source":null}`))
	if want := `{"default_source":null,"id":"x","metadata":{"m":"2"}}`; string(object) != want {
		t.Errorf("the object before is %s, want %s", object, want)
	}
}
