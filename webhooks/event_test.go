package webhooks_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pook/stripeonce/internal/storable"
	"github.com/pook/stripeonce/webhooks"
)

var long = strings.Repeat("x", 256)

// parsed are bodies that are events, and refused those that are none, with a word of the reason.
var parsed = []struct {
	name, body string
	want       webhooks.Event
}{
	{"whole", `{"id":"evt_1","object":"event","api_version":"2024-06-20","created":1700000000,"livemode":true,
		"account":"acct_1","data":{"object":{"id":"sub_1"},"previous_attributes":{"status":"active"}},"type":"a.b","request":"req_1"}`,
		webhooks.Event{ID: "evt_1", Type: "a.b", APIVersion: "2024-06-20", Account: "acct_1", Livemode: true,
			Created: time.Unix(1700000000, 0).UTC(), Object: json.RawMessage(`{"id":"sub_1"}`), Previous: json.RawMessage(`{"status":"active"}`)}},
	{"bare", `{"id":"1","type":"x"}`, webhooks.Event{ID: "1", Type: "x"}},
	{"nulls", `{"id":"1","type":"x","object":null,"api_version":null,"created":null,"account":null,"livemode":null,"data":null,"request":null}`,
		webhooks.Event{ID: "1", Type: "x"}},
	{"the last of two ids", `{"id":"1","type":"x","id":"2"}`, webhooks.Event{ID: "2", Type: "x"}},
	{"keys match exactly", `{"id":"1","type":"x","ID":"2","Type":"y"}`, webhooks.Event{ID: "1", Type: "x"}},
	{"version of another type", `{"id":"1","type":"x","api_version":7}`, webhooks.Event{ID: "1", Type: "x"}},
	{"version with NUL", `{"id":"1","type":"x","api_version":"20\u000024"}`, webhooks.Event{ID: "1", Type: "x", APIVersion: "2024"}},
	{"livemode is the object's", `{"id":"1","type":"x","data":{"object":{"livemode":true}}}`,
		webhooks.Event{ID: "1", Type: "x", Livemode: true, Object: json.RawMessage(`{"livemode":true}`)}},
	{"object cleaned", `{"id":"1","type":"x","data":{"object":{"a":"\u0000","n":1e9999}}}`,
		webhooks.Event{ID: "1", Type: "x", Object: json.RawMessage(`{"a":"\ufffd","n":"1e9999"}`)}},
	{"created as a float", `{"id":"1","type":"x","created":1.7e9}`, webhooks.Event{ID: "1", Type: "x", Created: time.Unix(1700000000, 0).UTC()}},
	{"thin", `{"id":"evt_2","object":"v2.core.event","type":"v1.billing.meter.error_report_triggered","created":"2026-09-30T10:00:00.000Z","related_object":{"id":"mtr_1"}}`,
		webhooks.Event{ID: "evt_2", Type: "v1.billing.meter.error_report_triggered", Created: time.Date(2026, 9, 30, 10, 0, 0, 0, time.UTC)}},
	{"data is a list", `{"id":"1","type":"x","data":[]}`, webhooks.Event{ID: "1", Type: "x"}},
	{"object is a text", `{"id":"1","type":"x","data":{"object":"sub_1"}}`, webhooks.Event{ID: "1", Type: "x"}},
	{"deep object", `{"id":"1","type":"x","data":{"object":{"a":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}}}`,
		webhooks.Event{ID: "1", Type: "x"}},
	{"livemode null is the object's", `{"id":"1","type":"x","livemode":null,"data":{"object":{"livemode":true}}}`,
		webhooks.Event{ID: "1", Type: "x", Livemode: true, Object: json.RawMessage(`{"livemode":true}`)}},
	{"thin, with data of its own", `{"id":"evt_2","object":"v2.core.event","type":"v1.x","data":"y"}`, webhooks.Event{ID: "evt_2", Type: "v1.x"}},
	{"id of 255 characters", `{"id":"` + long[1:] + `","type":"x"}`, webhooks.Event{ID: long[1:], Type: "x"}},
}

var refused = []struct{ name, body, reason string }{
	{"empty", ``, "not a JSON object"},
	{"null", `null`, "no id"},
	{"empty object", `{}`, "no id"},
	{"array", `[]`, "not a JSON object"},
	{"cut short", `{"id":"evt_1","type":"x"`, "not a JSON object"},
	{"two values", `{"id":"1","type":"x"}{}`, "not a JSON object"},
	{"no type", `{"id":"1"}`, "no type"},
	{"id is a number", `{"id":1,"type":"x"}`, "id is not a string"},
	{"another object", `{"id":"cus_1","type":"x","object":"customer"}`, `object is "customer"`},
	{"long id", `{"id":"` + long + `","type":"x"}`, "id is longer than 255"},
	{"long type", `{"id":"1","type":"` + long + `"}`, "type is longer than 255"},
	{"long account", `{"id":"1","type":"x","account":"` + long + `"}`, "account is longer than 255"},
	{"NUL in id", `{"id":"a\u0000","type":"x"}`, "id contains a NUL"},
	{"NUL in type", `{"id":"a","type":"\u0000"}`, "type contains a NUL"},
	{"half a pair in id", `{"id":"a\ud800","type":"x"}`, "id is not proper Unicode"},
	{"wrong UTF-8 in id", "{\"id\":\"a\xff\",\"type\":\"x\"}", "id is not proper Unicode"},
	{"created is far", `{"id":"1","type":"x","created":1e300}`, "created is not a time"},
	{"created is a word", `{"id":"1","type":"x","created":"soon"}`, "created is not a time"},
}

func TestParseEvent(t *testing.T) {
	t.Parallel()
	for _, c := range parsed {
		ev, err := webhooks.ParseEvent([]byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(&c.want, ev, cmpopts.IgnoreUnexported(webhooks.Event{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	for _, c := range refused {
		_, err := webhooks.ParseEvent([]byte(c.body))
		if !errors.Is(err, webhooks.ErrInvalidEvent) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: the error is %v, want one with %q", c.name, err, c.reason)
		}
	}
}

func TestObjectID(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"id":"1","type":"x","data":{"object":{"id":"sub_1"}}}`:                                 "sub_1",
		`{"id":"1","type":"invoice.upcoming","data":{"object":{"object":"invoice"}}}`:            "",
		`{"id":"1","type":"x","data":{"object":{"id":7}}}`:                                       "",
		`{"id":"1","type":"x","data":{"object":{"id":"` + long + `"}}}`:                          "",
		`{"id":"1","type":"x","object":"v2.core.event","related_object":{"id":"sub_2"}}`:         "sub_2",
		`{"id":"1","type":"x","object":"v2.core.event","data":{"object":{"id":"not this one"}}}`: "",
	} {
		ev, err := webhooks.ParseEvent([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got := ev.ObjectID(); got != want {
			t.Errorf("the object of %.80s is %q, want %q", body, got, want)
		}
	}
}

// objectIn is data.object and its id as encoding/json finds them.
func objectIn(body []byte) (object []byte, id string) {
	var event, data, members map[string]json.RawMessage
	_ = json.Unmarshal(body, &event)
	_ = json.Unmarshal(event["data"], &data)
	if object = data["object"]; len(object) == 0 || object[0] != '{' {
		return nil, ""
	}
	object, err := storable.JSON(object)
	if err != nil {
		return nil, ""
	}
	_ = json.Unmarshal(object, &members)
	_ = json.Unmarshal(members["id"], &id)
	if utf8.RuneCountInString(id) > 255 || strings.ContainsAny(id, "\x00\ufffd") {
		id = ""
	}
	return object, id
}

// Whatever the body, the answer is an event that the ledger can hold or a clear error.
func FuzzParseEvent(f *testing.F) {
	for _, c := range parsed {
		f.Add([]byte(c.body))
	}
	for _, c := range refused {
		f.Add([]byte(c.body))
	}
	for _, data := range []string{
		`"data":{"object":{"id":"a"}},"data":{}`, `"data":{"object":{"id":"a"},"object":{"id":"b","id":"c"}}`, `"data":{"object":{"id":"a"},"object":{}}`,
		`"data":{"object":{"id":"a"},"object":7}`, `"data":{"object":{"a":{"id":"b"}}}`, `"data":[{"object":{"id":"a"}}]`, `"data":{"object":[{"id":"a"}]}`,
		`"data":{"object":{"id":"a"}},"data":{"object":{"x":1}}`, `"d\u0061ta":{"object":{"\u0069d":"a"}}`, `"data":{"object":{"id":"a"}},"data":null`,
	} {
		f.Add([]byte(`{"id":"1","type":"x",` + data + `}`))
		f.Add([]byte(`{"id":"1","type":"x","odd":"\u0041",` + data + `}`))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		ev, err := webhooks.ParseEvent(body)
		if err != nil {
			if !errors.Is(err, webhooks.ErrInvalidEvent) {
				t.Errorf("%q gave %v", body, err)
			}
			return
		}
		if ev.ID == "" || ev.Type == "" || strings.ContainsRune(ev.ID+ev.Type+ev.Account+ev.ObjectID()+ev.APIVersion, 0) {
			t.Errorf("%q gave %+v", body, ev)
		}
		if ev.Object != nil && !json.Valid(ev.Object) || ev.Previous != nil && !json.Valid(ev.Previous) {
			t.Errorf("%q gave an object that is no JSON: %+v", body, ev)
		}
		if object, id := objectIn(body); utf8.Valid(body) && !ev.Thin() && (!bytes.Equal(ev.Object, object) || ev.ObjectID() != id) {
			t.Errorf("the object of %q is %q, of the id %q, want %q and %q", body, ev.Object, ev.ObjectID(), object, id)
		}
	})
}
