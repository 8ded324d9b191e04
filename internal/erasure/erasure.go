// Package erasure knows the customers whose data was erased (operations.Erase): whether an event or an object is one's, so that
// nothing of it is stored again.
//
// The table stripe_erasures has the hashes of the ids of such customers and of their objects. An import looks them up whenever it
// stores something. A delivery looks them up in its first round trip, unless the receiver's [Flag] says that there are no erasures at
// all, so that a database without any pays nothing. A flag holds for [Lease]. So the first erasure in a database waits for that long
// between noting the customer and erasing anything: from then on, every receiver looks up the customers of its events.
package erasure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/rawjson"
)

// Text stands for the texts that an erasure removes.
const Text = "removed: it concerns a customer whose data was erased (stripeonce erase)"

// Lease is how long a receiver relies on that there are no erasures. It is a variable for tests.
var Lease = time.Minute

// Hash returns the SHA-256 of an id, in hex.
func Hash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// Subject is what says whether an event or an object is of an erased customer.
type Subject struct {
	Account    string
	OwnAccount bool // Account is the receiver's own, which some rows have as ""
	Livemode   bool
	ID         string   // of the object; empty: it has none
	IDs        []string // any of them may be erased, that of the object among them
}

// State is what the table has of a subject.
type State struct {
	Erased bool
	// Unnoted reports that the subject is of an erased customer, but the object's own id is not in the table: it is new. What names
	// it, as a refund its charge, is the customer's, too.
	Unnoted bool

	account, customer string
}

// Hashes returns the hashes of the ids.
func (s *Subject) Hashes() []string {
	hashes := make([]string, len(s.IDs))
	for i, id := range s.IDs {
		hashes[i] = Hash(id)
	}
	return hashes
}

// Accounts returns what the account may be in the table.
func (s *Subject) Accounts() []string {
	if s.OwnAccount && s.Account != "" {
		return []string{s.Account, ""}
	}
	return []string{s.Account}
}

// payment are the members by which an object that names no customer, such as a refund, belongs to a customer's payment.
var payment = []string{"charge", "payment_intent", "payment_method", "invoice", "setup_intent"}

// IDs returns the ids by which an object, any text, is an erased customer's: its own and that of its customer. Where it names no
// customer, as a refund does not, they include those of its payment.
func IDs(object []byte) []string {
	members := membersOf(object)
	ids := appendIDs(nil, members["id"], members["customer"])
	if customer := appendIDs(nil, members["customer"]); len(customer) > 0 {
		return ids
	}
	for _, name := range payment {
		ids = appendIDs(ids, members[name])
	}
	if of := members["payment"]; rawjson.IsObject(of) { // of an invoice_payment
		ids = appendIDs(ids, rawjson.Get(of, "charge"), rawjson.Get(of, "payment_intent"))
	}
	return ids
}

// Before returns the id of the customer that an object had before, by the previous attributes of its event.
func Before(previous []byte) []string { return appendIDs(nil, membersOf(previous)["customer"]) }

func membersOf(object []byte) map[string][]byte {
	members := map[string][]byte{}
	if object = bytes.TrimSpace(object); rawjson.IsObject(object) && rawjson.Valid(object) {
		rawjson.Members(object, func(key, value []byte) { members[string(key)] = value })
	}
	return members
}

// appendIDs appends the ids that values are, or those of expanded objects.
func appendIDs(ids []string, values ...[]byte) []string {
	for _, value := range values {
		if rawjson.IsObject(value) {
			value = rawjson.Get(value, "id")
		}
		if id, _ := rawjson.String(value); id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// mark is the key of a row of the table.
type mark struct{ hash, livemode, account string }

// Find returns what the table has of the subjects, and whether there are erasures at all.
func Find(ctx context.Context, conn pgpipe.DBTX, subjects []Subject) (states []State, anyErased bool, err error) {
	var hashes []string
	for i := range subjects {
		hashes = append(hashes, subjects[i].Hashes()...)
	}
	row, err := db.New().ErasureLookup(ctx, conn, hashes)
	if err != nil {
		return nil, false, pgpipe.Wrap("look up erased customers", err)
	}
	customers := map[mark]string{}
	for _, text := range row.Erased {
		key, customer := parse(text)
		customers[key] = customer
	}
	states = make([]State, len(subjects))
	for i := range subjects {
		states[i] = subjects[i].stateIn(customers)
	}
	return states, row.AnyErased, nil
}

func (s *Subject) stateIn(customers map[mark]string) (state State) {
	if len(customers) == 0 {
		return state
	}
	state.Unnoted = s.ID != ""
	for _, id := range s.IDs {
		for _, account := range s.Accounts() {
			customer, found := customers[mark{Hash(id), strconv.FormatBool(s.Livemode), account}]
			if found {
				state.Erased, state.account, state.customer = true, account, customer
				state.Unnoted = state.Unnoted && id != s.ID
			}
		}
	}
	state.Unnoted = state.Unnoted && state.Erased
	return state
}

// parse reads a row as ErasureLookup returns it.
func parse(text string) (key mark, customer string) {
	hash, rest, _ := strings.Cut(text, " ")
	livemode, rest, _ := strings.Cut(rest, " ")
	customer, account, _ := strings.Cut(rest, " ")
	return mark{hash, strconv.FormatBool(livemode == "t"), account}, customer
}

// Note notes the object of a subject whose state is Unnoted.
func Note(ctx context.Context, conn pgpipe.DBTX, s *Subject, state State) error {
	_, err := db.New().ErasureInsert(ctx, conn, db.ErasureInsertParams{
		IDHashes: []string{Hash(s.ID)}, AccountIds: []string{state.account}, Livemodes: []bool{s.Livemode}, CustomerHash: state.customer,
	})
	return pgpipe.Wrap("note an erased customer's object", err)
}

// Flag is what a receiver knows of erasures. The zero value knows nothing. It is safe for concurrent use.
type Flag struct{ known atomic.Pointer[knowledge] }

type knowledge struct {
	anyErased bool
	until     time.Time
}

// MustLook reports whether a delivery must look its customer up: there are erasures, or it is not known.
func (f *Flag) MustLook() bool {
	known := f.known.Load()
	return known == nil || known.anyErased || time.Now().After(known.until)
}

// Learn notes what a lookup found that was sent at a time or later.
func (f *Flag) Learn(sent time.Time, anyErased bool) {
	f.known.Store(&knowledge{anyErased, sent.Add(Lease)})
}
