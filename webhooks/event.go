package webhooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/internal/storable"
)

// maxText is the width, in characters, of the ledger's columns for ids, types and accounts.
const maxText = 255

// maxCreated is the last second of the year 9999.
const maxCreated = 253402300799

const thinObject = "v2.core.event"

// Event is one Stripe event, of any API version. See https://docs.stripe.com/api/events/object.
type Event struct {
	// ID is the event's id, the key of the ledger. Stripe's begin with evt_; any text will do.
	ID string
	// Type is the event's type, such as "customer.subscription.updated".
	Type string
	// APIVersion is the version that Object is rendered in, such as "2024-06-20". It may be empty.
	APIVersion string
	// Account is the account that the event is about: a connected one, one of an organization, or a tenant's
	// (Config.AccountFor). For the receiver's own account it is Config.AccountID, or else empty.
	Account string
	// Created is when Stripe made the event, in whole seconds. Zero if the event does not say.
	Created time.Time
	// Livemode is false for events of test mode.
	Livemode bool
	// Object is data.object, the Stripe object as of the event. What PostgreSQL's jsonb refuses (NUL,
	// half a surrogate pair, wrong UTF-8, numbers beyond its range) is replaced. Nil if there is none, or
	// none that jsonb could hold: it nests deeper than 512 levels.
	Object json.RawMessage
	// Previous is data.previous_attributes, or a thin event's changes.before, cleaned like Object. Nil if there is none. It is
	// of the event's time, whereas a thin event's Object is of the time at which it was fetched.
	Previous json.RawMessage

	// Current is Stripe's current object, for a handler that requested it with Fetch. Nil otherwise.
	Current *Current

	context    string   // the path of the account as Stripe gave it, such as org_…/acct_…
	tenant     *Account // what Config.AccountFor returned
	own        bool     // Account is the account of the API key, which is never sent with a request
	thin       bool     // a v2.core.event, which carries no object
	related    related
	impact     impact // of a HealthEvent
	snapshot   string // the id of the event that tells the same with the object in it
	names      bool   // it has the member snapshot_event, even if that is null
	whole      bool   // it has been fetched, to learn what it lacked
	canFetch   bool
	about      about  // Object's,
	identified *byte  // if this is where Object begins
	raw        []byte // the whole body, nil for an event that was not parsed
}

// related is a thin event's related_object.
type related struct{ id, kind, url string }

// Context is the event's context, which names its account by a path such as org_…/acct_…. Thin events of other accounts
// and all events of organizations have one. Empty: none.
func (ev *Event) Context() string { return ev.context }

// OwnAccount reports whether Account is the receiver's own (Config.AccountID).
func (ev *Event) OwnAccount() bool { return ev.own && ev.tenant == nil }

// CanFetch reports whether a handler may return Fetch: there is an API key of the event's mode.
func (ev *Event) CanFetch() bool { return ev.canFetch }

// Payload is the whole event as it was given to ParseEvent. Nil for one that was made otherwise.
func (ev *Event) Payload() []byte { return ev.raw }

// SnapshotEventID returns the id of the snapshot event that corresponds to a thin event; empty if the event names none.
func (ev *Event) SnapshotEventID() string { return ev.snapshot }

// Thin reports whether it is a thin event (https://docs.stripe.com/event-destinations#thin-events). Handlers receive
// it with Stripe's current object in Object; one about nothing that can be fetched, with its data. Projections also receive
// it before, with a nil Object, and should then return Fetch.
func (ev *Event) Thin() bool { return ev.thin }

// thinPrefix is what the type of a thin event about a v1 resource begins with.
const thinPrefix = "v1."

// aboutV1 reports whether a thin event is about a v1 resource. It then has a snapshot event's type.
func (ev *Event) aboutV1() bool { return strings.HasPrefix(ev.Type, thinPrefix) }

// needsKey reports whether something of the event must be fetched.
func (ev *Event) needsKey() bool { return ev.fetches() || ev.thin && ev.aboutV1() || ev.lacksMembers() }

// fetches reports whether the event's object must be fetched.
func (ev *Event) fetches() bool { return ev.thin && ev.related.url != "" }

// ParseEvent reads an event from the body of a delivery or from an answer of Stripe's Events API.
// Every error wraps ErrInvalidEvent and says what is wrong. Unknown fields, types and API versions are
// accepted. Keys are matched exactly, and of a repeated key the last value counts, as it does in jsonb.
func ParseEvent(body []byte) (*Event, error) {
	var fields envelope
	valid, plain := rawjson.Walk(body, envelopeDepth, fields.note)
	if whole := bytes.TrimSpace(body); !valid || !rawjson.IsObject(whole) && !rawjson.IsNull(whole) {
		var object map[string]json.RawMessage
		return nil, invalid("the body is not a JSON object: %v", json.Unmarshal(body, &object))
	}
	ev := &Event{raw: body}
	if err := ev.readEnvelope(&fields); err != nil {
		return nil, err
	}
	if err := ev.readData(&fields, plain); err != nil {
		return nil, err
	}
	return ev, ev.validate()
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalidEvent}, args...)...)
}

// envelope has the members of an event as they came. Of a repeated key the last value is kept.
type envelope struct {
	id, kind, object, account, context, created, apiVersion, livemode, related, snapshot, changes, wholeData []byte

	data, dataInProgress       data
	inObject, objectInProgress members
}

// data has the members of data.
type data struct{ object, previous []byte }

// envelopeDepth is the depth of the deepest member that is read from every event, data.object.id.
const envelopeDepth = 3

// note receives the members of an object before the object itself.
func (e *envelope) note(path [][]byte, value []byte) {
	key := string(path[len(path)-1])
	switch {
	case len(path) == 1:
		e.noteTop(key, value)
	case string(path[0]) != "data":
	case len(path) == 2 && key == "object":
		e.dataInProgress.object = value
		e.inObject, e.objectInProgress = e.objectInProgress, members{}
	case len(path) == 2 && key == "previous_attributes":
		e.dataInProgress.previous = value
	case len(path) == 3 && string(path[1]) == "object":
		e.objectInProgress.note(key, value)
	}
}

func (e *envelope) noteTop(key string, value []byte) {
	switch key {
	case "id":
		e.id = value
	case "type":
		e.kind = value
	case "object":
		e.object = value
	case "account":
		e.account = value
	case "created":
		e.created = value
	case "api_version":
		e.apiVersion = value
	case "livemode":
		e.livemode = value
	case "data":
		e.data, e.dataInProgress, e.wholeData = e.dataInProgress, data{}, value
	case "related_object":
		e.related = value
	case "snapshot_event":
		e.snapshot = value
	case "context":
		e.context = value
	case "changes":
		e.changes = value
	}
}

func (ev *Event) readEnvelope(e *envelope) error {
	var object string
	err := errors.Join(
		readString(e.id, "id", &ev.ID),
		readString(e.kind, "type", &ev.Type),
		readString(e.object, "object", &object),
		readString(e.account, "account", &ev.Account),
		readString(e.context, "context", &ev.context),
		readCreated(e.created, &ev.Created),
	)
	if err != nil {
		return err
	}
	// Not worth refusing an event for: nothing rests on the version.
	_ = readString(e.apiVersion, "api_version", &ev.APIVersion)
	ev.APIVersion = strings.ReplaceAll(ev.APIVersion, "\x00", "")
	if object != "" && object != "event" && object != thinObject {
		return invalid("object is %.40q, not \"event\"", object)
	}
	ev.thin = object == thinObject
	if ev.Account == "" {
		ev.setContext(ev.context)
	}
	return nil
}

// setContext sets the path of the account, whose last part is its id.
func (ev *Event) setContext(path string) {
	ev.context, ev.Account = path, path[strings.LastIndexByte(path, '/')+1:]
}

func (ev *Event) readData(e *envelope, plain bool) error {
	ev.Livemode = string(e.livemode) == "true"
	if ev.thin {
		return ev.readThin(e, plain)
	}
	ev.Object, ev.Previous = readObject(e.data.object, plain), readObject(e.data.previous, plain)
	if ev.Object == nil {
		return nil
	}
	object := e.inObject
	if !plain {
		object = readMembers(ev.Object)
	}
	ev.about, ev.identified = object.about(), &ev.Object[0]
	if said := string(e.livemode); said != "true" && said != "false" {
		ev.Livemode = string(object.livemode) == "true"
	}
	return nil
}

func readRelated(raw []byte) (r related) {
	r.id, _ = rawjson.String(member(raw, "id"))
	r.kind, _ = rawjson.String(member(raw, "type"))
	r.url, _ = rawjson.String(member(raw, "url"))
	return r
}

// readThin reads what a thin event has in place of an object.
func (ev *Event) readThin(e *envelope, plain bool) error {
	ev.related = readRelated(e.related)
	if ev.related.url == "" { // it is about nothing that can be fetched
		ev.Object = readObject(e.wholeData, plain)
	}
	if ev.Type == HealthEvent {
		ev.readImpact(e.wholeData)
	}
	ev.Previous = readObject(member(e.changes, "before"), plain)
	ev.names = e.snapshot != nil
	return readString(e.snapshot, "snapshot_event", &ev.snapshot)
}

// readObject returns raw in a form that jsonb accepts, which a plain text is already. It returns nil for a value that is not
// an object, or nests too deep: the event then fails only if a handler needs the object.
func readObject(raw json.RawMessage, plain bool) json.RawMessage {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	if plain {
		return raw
	}
	clean, err := storable.JSON(raw)
	if err != nil {
		return nil
	}
	return clean
}

func readString(raw []byte, name string, to *string) error {
	if rawjson.IsNull(raw) {
		return nil
	}
	text, ok := rawjson.String(raw)
	if !ok {
		return invalid("%s is not a string", name)
	}
	*to = text
	return nil
}

// readCreated takes Unix seconds, and the RFC 3339 text of thin events.
func readCreated(raw []byte, to *time.Time) error {
	if rawjson.IsNull(raw) {
		return nil
	}
	if text, ok := rawjson.String(raw); ok {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || at.Unix() < 0 || at.Unix() > maxCreated {
			return invalid("created is not a time")
		}
		*to = at.UTC()
		return nil
	}
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || seconds != math.Trunc(seconds) || seconds < 0 || seconds > maxCreated {
		return invalid("created is not a time in Unix seconds")
	}
	*to = time.Unix(int64(seconds), 0).UTC()
	return nil
}

// validate checks what the ledger's columns need.
func (ev *Event) validate() error {
	switch {
	case ev.ID == "":
		return invalid("no id")
	case ev.Type == "":
		return invalid("no type")
	}
	return errors.Join(storableText("id", ev.ID), storableText("type", ev.Type), storableText("account", ev.Account),
		storableText("context", ev.context),
		storableText("snapshot_event", ev.snapshot))
}

// storableText refuses what a column cannot hold, or could hold only changed: two ids that differ in
// what is replaced would become one.
func storableText(name, s string) error {
	switch {
	case utf8.RuneCountInString(s) > maxText:
		return invalid("%s is longer than %d characters", name, maxText)
	case strings.ContainsRune(s, 0):
		return invalid("%s contains a NUL character", name)
	case strings.ContainsRune(s, utf8.RuneError):
		return invalid("%s is not proper Unicode text", name)
	}
	return nil
}
