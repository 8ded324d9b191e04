package signing

import (
	"bytes"
	"testing"
	"time"
)

// A body of the usual size, signed with the second of two secrets, as during a rotation.
func BenchmarkVerify(b *testing.B) {
	v := NewVerifier([]string{"whsec_old", "whsec_new"}, 5*time.Minute)
	body := bytes.Repeat([]byte("x"), 4<<10)
	header := Sign(body, "whsec_new")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Verify(body, header); err != nil {
			b.Fatal(err)
		}
	}
}
