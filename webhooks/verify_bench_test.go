package webhooks

import (
	"bytes"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stripe/stripe-go/v79/webhook"
)

// A body of the usual size, signed with the second of two secrets, as during a rotation.
func BenchmarkVerify(b *testing.B) {
	pool, err := pgxpool.New(b.Context(), "postgres://nobody@127.0.0.1:1/none") // never connected to
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	r, err := New(pool, NewHandlers(), &Config{Secrets: []string{"whsec_old", "whsec_new"}})
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 4<<10)
	signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: "whsec_new", Timestamp: time.Now()})
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := r.verify(body, signed.Header); err != nil {
			b.Fatal(err)
		}
	}
}
