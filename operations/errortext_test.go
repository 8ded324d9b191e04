package operations

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"no such customer": "no such customer",
		"":                 "",
		// Ids, of real and of short ones, keep their prefixes. Names in the program and the schema are no ids.
		"no customer cus_NffrFeUfNV2Hib":                          "no customer cus_…",
		"cus_1: in_2 of evt_1t2KOLZDoKaUiJc9lYwZ4ylO":             "cus_…: in_… of evt_…",
		"sub_sched_1Mr7SC2eZvKYlo2C, cs_test_a1B2, pi_3_secret_x": "sub_sched_…, cs_test_…, pi_…",
		"acct_NFFRFEUFNVHIBABC is closed":                         "acct_NFFRFEUFNVHIBABC is closed",
		"whsec_AbCdEfGhIjKl":                                      "whsec_…",
		"STRIPE_API_KEY and stripe_webhook_events, in_progress":   "STRIPE_API_KEY and stripe_webhook_events, in_progress",
		// Numbers.
		"amount 1200 is not 1,199.50":                "amount <n> is not <n>",
		"balance -5 (of +7), range 1-5":              "balance <n> (of <n>), range <n>-<n>",
		"dial tcp 10.0.0.5:5432: connection refused": "dial tcp <n>: connection refused",
		"tenant7: shard 12 of worker3, the 2nd time": "tenant<n>: shard <n> of worker<n>, the <n>nd time",
		"index out of range [5] with length 3":       "index out of range [<n>] with length <n>",
		"ERROR: deadlock detected (SQLSTATE 40P01)":  "ERROR: deadlock detected (SQLSTATE 40P01)",
		"Stripe answers 429: slow down":              "Stripe answers 429: slow down",
		"the API answered 404, status 503, HTTP 500": "the API answered 404, status 503, HTTP 500",
		"status 12 answers 1200":                     "status <n> answers <n>",
		// Times and durations.
		"at 2026-11-22T03:10:44Z":                    "at <time>",
		"at 2026-11-22T03:10:44.123456+01:00, again": "at <time>, again",
		"at 2026-11-22 03:10:44.1+00 and 2026-11-22": "at <time> and <time>",
		"since 2026-11-22 03:10:44.123 +0000 UTC":    "since <time>",
		"at 03:10:44":                           "at <n>",
		"gave up after 1m30.5s, 250ms, 10s, 2h": "gave up after <time>, <time>, <time>, <time>",
		"5 messages in 3minutes":                "<n> messages in <n>minutes",
		"context deadline exceeded after 8s":    "context deadline exceeded after <time>",
		// UUIDs, hexadecimal, tokens, addresses.
		"order 123e4567-e89b-12d3-a456-426614174000 is gone": "order <uuid> is gone",
		"order 123E4567-E89B-12D3-A456-426614174000":         "order <uuid>",
		"123e4567-e89b-12d3-a456-4266141740001":              "<hex>-e<n>b-<n>d<n>-a<n>-<n>",
		"panic: nil pointer at 0xc000123abc":                 "panic: nil pointer at <hex>",
		"digest 9f86d081884c7d659a2feaa0c55ad015 is wrong":   "digest <hex> is wrong",
		"deadbeef facade beefed":                             "deadbeef facade beefed",
		"session dGhpcyBpcyBhIHRlc3Q1MjM is over":            "session <token> is over",
		"no user bob.smith+x@mail.example.com, ask @bob":     "no user <email>, ask @bob",
		// Quoted strings, but not the names that PostgreSQL quotes, nor apostrophes.
		`no plan "gold" for 'Bob' or ` + "`x`":                                                      `no plan "…" for '…' or ` + "`…`",
		`a "string with \"quotes\" in it" ends`:                                                     `a "…" ends`,
		`it doesn't have the customer's "id`:                                                        `it doesn't have the customer's "id`,
		`new row for relation "subscriptions" violates check constraint "wrong_2" (SQLSTATE 23514)`: `new row for relation "subscriptions" violates check constraint "wrong_…" (SQLSTATE 23514)`,
		`null value in column "user_id" of relation "orders" violates not-null constraint`:          `null value in column "user_id" of relation "orders" violates not-null constraint`,
		`invalid input syntax for type integer: "abc"`:                                              `invalid input syntax for type integer: "…"`,
		`parse {"id":"in_1","amount":5}`:                                                            `parse {"…":"…","…":<n>}`,
		// One line, and what is not ASCII.
		"a\n\tb  c ":               "a b c",
		"für Kundin Nº5 – 7 Stück": "für Kundin Nº<n> – <n> Stück",
	} {
		if got := normalize(text); got != want {
			t.Errorf("%q\nis    %q\nwant  %q", text, got, want)
		}
	}
}

// What differs between errors of one cause alone makes no two groups, and another cause does.
func TestNormalizeTellsCausesApart(t *testing.T) {
	t.Parallel()
	same := [][]string{
		{"store subscription sub_1: timeout after 5s", "store subscription sub_9xYz: timeout after 250ms"},
		{"no credit for 12 at 2026-01-02T03:04:05Z", "no credit for 1,000.5 at 2027-11-12T13:14:15.5+02:00"},
		{`unknown plan "gold"`, `unknown plan "silver or \"so\""`},
	}
	for _, texts := range same {
		if a, b := normalize(texts[0]), normalize(texts[1]); a != b {
			t.Errorf("%q and %q are of one cause", a, b)
		}
	}
	differ := [][]string{
		{`violates check constraint "a"`, `violates check constraint "b"`},
		{"failed (SQLSTATE 23514)", "failed (SQLSTATE 23505)"},
		{"no customer cus_1", "no customer sub_1"},
		{"Stripe answers 401", "Stripe answers 429"},
	}
	for _, texts := range differ {
		if a, b := normalize(texts[0]), normalize(texts[1]); a == b {
			t.Errorf("%q and %q are of two causes", texts[0], texts[1])
		}
	}
}

func TestNormalizeIsBounded(t *testing.T) {
	t.Parallel()
	if got := normalize(strings.Repeat("é ", 5000)); utf8.RuneCountInString(got) != maxNormalized+1 || !strings.HasSuffix(got, "…") {
		t.Errorf("it has %d characters", utf8.RuneCountInString(got))
	}
}

func FuzzNormalize(f *testing.F) {
	for _, text := range []string{"cus_1", `"a`, "0x", "1h2", "2026-01-02T", "a@b.", "'", "\\\"", "-1", "µs 1µs"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := normalize(text)
		if utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("%q is no valid text of %q", got, text)
		}
	})
}

func BenchmarkNormalize(b *testing.B) {
	text := `store subscription sub_1OgSCuQqSunOX4UuVpbGPvse: ERROR: new row for relation "subscriptions" violates check constraint "wrong" (SQLSTATE 23514)`
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		normalize(text)
	}
}
