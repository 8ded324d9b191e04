// Package signing verifies the signatures of deliveries, and checks signing secrets and API keys without showing them.
//
// The signature check itself, in constant time, is stripe-go's:
// https://docs.stripe.com/webhooks#verify-official-libraries.
package signing

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"

	"github.com/pook/stripeonce/internal/fault"
)

// Header is the header in which Stripe signs a delivery.
const Header = "Stripe-Signature"

// MaxHeaderBytes is how long the header may be, which bounds the work of checking it. Stripe puts one signature of 68
// bytes into it for each secret that is in force.
const MaxHeaderBytes = 4096

// ReplayHeader requests that a parked event be applied. Stripe never sends it. It is signed with a signing secret of the
// receiver's, over another text than the Stripe-Signature, so that nobody else can add it to a delivery.
const ReplayHeader = "Stripeonce-Replay"

// Sign makes the Header for a body, with the time of now.
func Sign(body []byte, secret string) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret}).Header
}

// SignReplay makes the ReplayHeader for a body.
func SignReplay(body []byte, secret string) string { return Sign(replayed(body), secret) }

// replayed is what the ReplayHeader signs: another text than the Stripe-Signature does.
func replayed(body []byte) []byte { return append([]byte("stripeonce replay "), body...) }

// Verifier verifies signatures by any of its secrets. It is safe for concurrent use.
type Verifier struct {
	secrets   []*secret
	tolerance time.Duration
}

// secret is one signing secret with counts of the deliveries that it verified.
type secret struct {
	label     string
	key       string
	matched   atomic.Uint64
	lastMatch atomic.Int64 // in nanoseconds since 1970; 0: never
}

// NewVerifier returns a Verifier for entries that CheckSecrets accepts. Tolerance is how old a signature may be.
func NewVerifier(entries []string, tolerance time.Duration) *Verifier {
	v := &Verifier{tolerance: tolerance}
	for i, entry := range entries {
		label, key := CutLabel(entry)
		if label == "" {
			label = strconv.Itoa(i + 1)
		}
		v.secrets = append(v.secrets, &secret{label: label, key: key})
	}
	return v
}

// Reason says why a signature was rejected.
type Reason string

// The reasons.
const (
	Missing   Reason = "missing"    // there is no header
	Malformed Reason = "malformed"  // the header is malformed, or too long
	Expired   Reason = "expired"    // the timestamp is missing, or older than the tolerance
	EmptyBody Reason = "empty_body" // Stripe never signs an empty body
	Mismatch  Reason = "mismatch"   // no secret of the receiver made it, or the body was changed
)

// Reasons are all reasons.
func Reasons() []Reason { return []Reason{Missing, Malformed, Expired, EmptyBody, Mismatch} }

// RejectedError wraps fault.ErrInvalidSignature and explains to the sender what is wrong.
type RejectedError struct {
	Reason Reason
	text   string
}

func (e *RejectedError) Error() string { return fault.ErrInvalidSignature.Error() + ": " + e.text }
func (e *RejectedError) Unwrap() error { return fault.ErrInvalidSignature }

// Verify accepts a body that any of the secrets signed. The event's API version plays no part in it. The error is a *RejectedError.
func (v *Verifier) Verify(body []byte, header string) error {
	secret, err := v.signer(body, header)
	if err != nil {
		return err
	}
	secret.matched.Add(1)
	secret.lastMatch.Store(time.Now().UnixNano())
	return nil
}

// VerifyReplay accepts a body and a ReplayHeader that any of the secrets signed. Stats does not count it: it says nothing of Stripe's secret.
func (v *Verifier) VerifyReplay(body []byte, header, replayHeader string) error {
	if _, err := v.signer(body, header); err != nil {
		return err
	}
	_, err := v.signer(replayed(body), replayHeader)
	return err
}

// signer returns the secret that signed a body.
func (v *Verifier) signer(body []byte, header string) (*secret, error) {
	if len(header) > MaxHeaderBytes {
		return nil, &RejectedError{Malformed, fmt.Sprintf("the %s header is longer than %d bytes", Header, MaxHeaderBytes)}
	}
	var err error
	for _, secret := range v.secrets {
		if err = webhook.ValidatePayloadWithTolerance(body, header, secret.key, v.tolerance); err == nil {
			return secret, nil
		}
	}
	return nil, v.rejected(err, len(body))
}

func (v *Verifier) rejected(err error, bodyBytes int) *RejectedError {
	switch {
	case errors.Is(err, webhook.ErrNotSigned):
		return &RejectedError{Missing, "there is no " + Header + " header"}
	case errors.Is(err, webhook.ErrInvalidHeader):
		return &RejectedError{Malformed, "the " + Header + " header is malformed"}
	case errors.Is(err, webhook.ErrTooOld):
		return &RejectedError{Expired, fmt.Sprintf("its timestamp is missing or older than %s", v.tolerance)}
	case bodyBytes == 0:
		return &RejectedError{EmptyBody, "the body is empty, which Stripe never signs: something before this handler may have read it"}
	default:
		return &RejectedError{Mismatch, "no v1 signature was made with this endpoint's signing secret over this body"}
	}
}

// Stats are the counts of one secret: see webhooks.SecretStats.
type Stats struct {
	Label     string
	Matched   uint64
	LastMatch time.Time
}

// Stats returns the counts of each secret, in their order.
func (v *Verifier) Stats() []Stats {
	stats := make([]Stats, len(v.secrets))
	for i, s := range v.secrets {
		stats[i] = Stats{Label: s.label, Matched: s.matched.Load()}
		if at := s.lastMatch.Load(); at != 0 {
			stats[i].LastMatch = time.Unix(0, at)
		}
	}
	return stats
}
