package engine

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pook/stripeonce/internal/ordering"
)

// NewestJSON writes JSON that encoding/json reads.
func TestNewestJSON(t *testing.T) {
	want := []ordering.Occurrence{
		{ID: "evt_1", Type: "a.b"},
		{ID: "evt_\"2\n", Type: "é", APIVersion: "2024-06-20", Object: []byte(`{"a":1}`), Previous: []byte(`{"b":[2]}`)},
	}
	v := &Version[struct{}]{Newest: append(want, ordering.Occurrence{ID: "evt_3", Object: []byte(`{"own":1}`)})}
	var got []ordering.Occurrence
	if err := json.Unmarshal(v.NewestJSON("evt_3"), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append(want, ordering.Occurrence{ID: "evt_3"}), got); diff != "" {
		t.Error(diff)
	}
	if got := (&Version[struct{}]{}).NewestJSON(""); string(got) != "[]" {
		t.Errorf("no events are %s", got)
	}
}
