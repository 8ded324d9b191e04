package pgpipe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/pgtest"
)

// kept is a row with a column for each Go type among the parameters of package db.
type kept struct {
	Text      string
	TextP     *string
	Int       int32
	Big       int64
	BigP      *int64
	Bool      bool
	BoolP     *bool
	Time      time.Time
	TimeP     *time.Time
	Bytes     []byte
	Texts     []string
	Bools     []bool
	Times     []time.Time
	JSON      json.RawMessage
	PlainJSON json.RawMessage // of type json, not jsonb
}

const createKept = `CREATE TEMP TABLE kept (id bigint GENERATED ALWAYS AS IDENTITY, text_ text, text_p text, int_ integer, big bigint, big_p bigint,
	bool_ boolean, bool_p boolean, time_ timestamptz, time_p timestamptz, bytes bytea, texts text [], bools boolean [], times timestamptz [],
	object jsonb, plain json)`

const (
	keptColumns = `text_, text_p, int_, big, big_p, bool_, bool_p, time_, time_p, bytes, texts, bools, times, object, plain`
	insertKept  = `INSERT INTO kept (` + keptColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`
)

func (k *kept) arguments() []any {
	return []any{k.Text, k.TextP, k.Int, k.Big, k.BigP, k.Bool, k.BoolP, k.Time, k.TimeP, k.Bytes, k.Texts, k.Bools, k.Times, k.JSON, k.PlainJSON}
}

func (k *kept) targets() []any {
	return []any{
		&k.Text, &k.TextP, &k.Int, &k.Big, &k.BigP, &k.Bool, &k.BoolP, &k.Time, &k.TimeP, &k.Bytes, &k.Texts, &k.Bools, &k.Times, &k.JSON, &k.PlainJSON,
	}
}

func pointer[T any](value T) *T { return &value }

// large is JSON that is larger than any buffer which is kept.
var large = json.RawMessage(`{"text": "` + strings.Repeat("x", 2*maxKept) + `"}`)

func keptRows() map[string]*kept {
	at := time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC)
	return map[string]*kept{
		"zero values": {},
		"values": {
			"text", pointer("text"), 1, 2, pointer(int64(3)), true, pointer(true), at, &at, []byte{0, 1, 255}, []string{"a", "b"},
			[]bool{true, false}, []time.Time{at, at.Add(time.Hour)}, json.RawMessage(`{"a": 1}`), json.RawMessage(`{"a":  1}`),
		},
		"empty values": {
			TextP: pointer(""), BigP: pointer(int64(0)), BoolP: pointer(false), TimeP: &time.Time{}, Bytes: []byte{}, Texts: []string{}, Bools: []bool{},
			Times: []time.Time{}, JSON: json.RawMessage(`null`), PlainJSON: json.RawMessage(`null`),
		},
		"extremes": {
			Text: `it's "quoted" \ and Zoë €𝄞`, TextP: pointer("\n\t"), Int: -1 << 31, Big: -1 << 63, BigP: pointer(int64(1<<63 - 1)),
			Time: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), TimeP: pointer(time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)),
			Texts: []string{"", "NULL", `{"a,b"}`, `\`}, JSON: json.RawMessage(`{"n": 1.50, "e": 1e400, "z": "Zoë \\ \u00e9", "s": [null, true, {}]}`),
		},
		"large JSON": {JSON: large, PlainJSON: large},
	}
}

// recorded opens a connection whose bytes are recorded.
func recorded(tb testing.TB, url string) (*pgx.Conn, *client) {
	tb.Helper()
	near := &client{}
	conn := connect(tb, url, func(config *pgx.ConnConfig) {
		config.DialFunc = func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			near.Conn, err = new(net.Dialer).DialContext(ctx, network, addr)
			return near, err
		}
	})
	return conn, near
}

// bindsOf returns the Bind messages in a stream, byte for byte.
func bindsOf(tb testing.TB, stream []byte) (binds [][]byte) {
	tb.Helper()
	backend := pgproto3.NewBackend(bytes.NewReader(stream), nil)
	for {
		message, err := backend.Receive()
		if err != nil {
			return binds
		}
		if bind, ok := message.(*pgproto3.Bind); ok {
			encoded, err := bind.Encode(nil)
			if err != nil {
				tb.Fatal(err)
			}
			binds = append(binds, encoded)
		}
	}
}

// Commit encodes arguments byte for byte as pgx does, and PostgreSQL stores their values.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "exec"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			valuesIn(t, mode)
		})
	}
}

func valuesIn(t *testing.T, mode string) {
	t.Helper()
	conn, near := recorded(t, inMode(pgtest.NewEmptyURL(t), mode))
	exec(t, conn, createKept)
	for name, row := range keptRows() {
		if err := begun(t, conn).Commit(t.Context(), []Query{executing("keep", insertKept, row.arguments()...)}, pgtest.WaitLimit); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		near.take()
		arguments := row.arguments()
		if err := begun(t, conn).Commit(t.Context(), []Query{executing("keep", insertKept, arguments...)}, pgtest.WaitLimit); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ours := bindsOf(t, near.take())
		ours = ours[len(ours)-2 : len(ours)-1] // the last two are of the write and of COMMIT
		if !reflect.DeepEqual(arguments, row.arguments()) {
			t.Errorf("%s: the arguments are changed", name)
		}
		exec(t, conn, insertKept, row.arguments()...)
		if pgxs := bindsOf(t, near.take()); len(pgxs) != 1 || !bytes.Equal(ours[0], pgxs[0]) {
			t.Errorf("%s: Commit sends %.300q, pgx %.300q", name, ours, pgxs)
		}
		var rows [2]kept
		for i := range rows {
			const query = `SELECT ` + keptColumns + ` FROM kept ORDER BY id DESC LIMIT 1 OFFSET $1`
			if err := conn.QueryRow(t.Context(), query, i).Scan(rows[i].targets()...); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(rows[0], rows[1]) {
			t.Errorf("%s: Commit stores %.500v, pgx %.500v", name, rows[1], rows[0])
		}
		got, want := rows[1], row
		if got.Text != want.Text || !reflect.DeepEqual(got.TextP, want.TextP) || got.Int != want.Int || got.Big != want.Big ||
			!reflect.DeepEqual(got.BigP, want.BigP) || !got.Time.Equal(want.Time) || !slices.Equal(got.Texts, want.Texts) ||
			string(got.PlainJSON) != string(want.PlainJSON) || (got.JSON == nil) != (want.JSON == nil) || (got.Texts == nil) != (want.Texts == nil) {
			t.Errorf("%s: stored is %.500v, want %.500v", name, got, *want)
		}
	}
}

// If PostgreSQL refuses JSON, the write fails and the connection stays open.
func TestInvalidJSON(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	exec(t, conn, createKept)
	for _, object := range []json.RawMessage{{}, json.RawMessage(`{`), json.RawMessage(`"\u0000"`), json.RawMessage("\xff")} {
		tx := begun(t, conn)
		err := tx.Commit(t.Context(), []Query{executing("keep", `INSERT INTO kept (object) VALUES ($1)`, object)}, pgtest.WaitLimit)
		if err == nil || !strings.HasPrefix(err.Error(), "keep: ERROR: ") {
			t.Errorf("%q: the error is %v", object, err)
		}
		tx.Rollback(t.Context(), pgtest.WaitLimit)
		if got := scan1[string](t, conn, selectText, "mine"); got != "mine" {
			t.Errorf("the next query returns %s", got)
		}
	}
}

// Commit encodes the writes of a delivery's last round trip byte for byte as pgx does.
func TestAccessors(t *testing.T) {
	t.Parallel()
	conn, near := recorded(t, pgtest.NewURL(t))
	at := time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC)
	q := db.New()
	subscription := db.SubscriptionUpsertParams{
		ID: "sub_1", CustomerID: pointer("cus_1"), Status: "active", Quantity: pointer(int64(2)), CancelAt: &at, Metadata: json.RawMessage(`{"a": "b"}`),
		DiscountIds: []string{"di_1"}, Object: json.RawMessage(`{"id": "sub_1"}`), LastEventID: pointer("evt_1"), LastEventCreatedAt: &at, Digest: []byte{1, 2}, NewestEvents: json.RawMessage(`[]`),
	}
	writes := map[string]Query{
		"SubscriptionUpsert": func(ctx context.Context, db DBTX) error {
			_, err := q.SubscriptionUpsert(ctx, db, subscription)
			return err
		},
		"SubscriptionItemUpsert": func(ctx context.Context, dbtx DBTX) error {
			return q.SubscriptionItemUpsert(ctx, dbtx, db.SubscriptionItemUpsertParams{
				SubscriptionID: "sub_1", ID: "si_1", Position: 1, PriceID: pointer("price_1"), Quantity: pointer(int64(1)), CurrentPeriodEnd: &at,
				Metadata: json.RawMessage(`{}`),
			})
		},
		"SubscriptionItemDeleteOthers": func(ctx context.Context, db DBTX) error {
			return q.SubscriptionItemDeleteOthers(ctx, db, "sub_1", []string{"si_1", "si_2"})
		},
		"StripeWebhookEventInsertAll": func(ctx context.Context, dbtx DBTX) error {
			return q.StripeWebhookEventInsertAll(ctx, dbtx, db.StripeWebhookEventInsertAllParams{
				Receiver: "host", EventIds: []string{"evt_1", "evt_2"}, EventTypes: []string{"a.b", "c"}, Outcomes: []string{"processed", "ignored"},
				EventCreatedAts: []time.Time{at, {}}, Livemodes: []bool{true, false}, AccountIds: []string{"", "acct_1"}, ApiVersions: []string{"", ""},
				ObjectIds: []string{"sub_1", ""},
			})
		},
		"StripeWebhookEventInsert": func(ctx context.Context, dbtx DBTX) error {
			return q.StripeWebhookEventInsert(ctx, dbtx, db.StripeWebhookEventInsertParams{
				EventID: "evt_1", EventType: "a.b", Outcome: "processed", EventCreatedAt: &at, Receiver: "host", AccountID: pointer("acct_1"), ObjectID: pointer("sub_1"),
			})
		},
		"StripeWebhookFailureUpsert": func(ctx context.Context, dbtx DBTX) error {
			_, err := q.StripeWebhookFailureUpsert(ctx, dbtx, db.StripeWebhookFailureUpsertParams{
				EventID: "evt_1", EventType: "a.b", LastError: "no", Payload: json.RawMessage(`{"id": "evt_1"}`), State: "failing",
				Receiver: "host", RetryAfterSeconds: 900.5,
			})
			return err
		},
		"ObjectLock": func(ctx context.Context, db DBTX) error { return q.ObjectLock(ctx, db, "sub_1", 1) },
	}
	names := []string{
		"SubscriptionUpsert", "SubscriptionItemUpsert", "SubscriptionItemDeleteOthers", "StripeWebhookEventInsertAll", "StripeWebhookFailureUpsert", "ObjectLock",
	}
	for _, group := range [][]string{names, {"StripeWebhookEventInsert"}} {
		queries := make([]Query, len(group))
		for i, name := range group {
			queries[i] = func(ctx context.Context, db DBTX) error { return Wrap(name, writes[name](ctx, db)) }
		}
		if _, err := encoded(t.Context(), conn, queries); err != nil { // so that the next round trip is one
			t.Fatal(err)
		}
		exec(t, conn, `DELETE FROM stripe_webhook_events`)
		tx := begun(t, conn)
		near.take()
		if err := tx.Commit(t.Context(), queries, pgtest.WaitLimit); err != nil {
			t.Fatal(err)
		}
		sent := near.take()
		ours := bindsOf(t, sent)
		if want := types(len(ours)); kinds(t, sent) != want {
			t.Errorf("the messages are %s, want %s", kinds(t, sent), want)
		}
		exec(t, conn, `DELETE FROM stripe_webhook_events`)
		for i, query := range queries {
			near.take()
			if err := query(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			if pgxs := bindsOf(t, near.take()); !bytes.Equal(pgxs[0], ours[i]) {
				t.Errorf("%s: Commit sends %.300q, pgx %.300q", group[i], ours[i], pgxs[0])
			}
		}
	}
	if n := scan1[int](t, conn, `SELECT count(*) FROM subscription_items`); n != 1 {
		t.Errorf("%d items are stored", n)
	}
}

// kinds are the types of the messages in a stream.
func kinds(tb testing.TB, stream []byte) string {
	tb.Helper()
	var kinds strings.Builder
	backend := pgproto3.NewBackend(bytes.NewReader(stream), nil)
	for {
		message, err := backend.Receive()
		if err != nil {
			return kinds.String()
		}
		fmt.Fprintf(&kinds, "%s ", strings.TrimPrefix(fmt.Sprintf("%T", message), "*pgproto3."))
	}
}

// types are those of a message of Commit with so many statements.
func types(statements int) string { return strings.Repeat("Bind Execute ", statements) + "Sync " }

// Commit discards the rows that a write returns.
func TestWritesWithRows(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	ran := 0
	writes := []Query{
		executing("many", `SELECT repeat('x', 1000) FROM generate_series(1, $1)`, 5000),
		func(ctx context.Context, db DBTX) error {
			ran++
			return db.QueryRow(ctx, `SELECT 1`).Scan(new(int))
		},
		executing("none", `SELECT 1 WHERE false`),
	}
	if err := begun(t, conn).Commit(t.Context(), writes, pgtest.WaitLimit); err != nil {
		t.Fatal(err)
	}
	if got := scan1[string](t, conn, selectText, "mine"); got != "mine" {
		t.Errorf("the next query returns %s", got)
	}
	if ran != 1 {
		t.Errorf("a write ran %d times, want once, to be recorded", ran)
	}
}

// A buffer larger than maxKept is not kept.
func TestGiveBack(t *testing.T) {
	t.Parallel()
	const grown = 2*maxKept + 12345 // a capacity that nothing else has
	for range 100 {
		buffer := make([]byte, 0, grown)
		giveBack(&buffer)
	}
	for range 100 {
		if got := messages.Get().(*[]byte); cap(*got) == grown {
			t.Fatal("a large buffer is kept")
		}
	}
}
