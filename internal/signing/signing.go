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

// Verify accepts a body that any of the secrets signed. The event's API version plays no part in it. The error wraps
// fault.ErrInvalidSignature and explains to the sender what is wrong.
func (v *Verifier) Verify(body []byte, header string) error {
	if len(header) > MaxHeaderBytes {
		return fmt.Errorf("%w: the %s header is longer than %d bytes", fault.ErrInvalidSignature, Header, MaxHeaderBytes)
	}
	var err error
	for _, secret := range v.secrets {
		if err = webhook.ValidatePayloadWithTolerance(body, header, secret.key, v.tolerance); err == nil {
			secret.matched.Add(1)
			secret.lastMatch.Store(time.Now().UnixNano())
			return nil
		}
	}
	return fmt.Errorf("%w: %s", fault.ErrInvalidSignature, v.explain(err, len(body)))
}

// VerifyReplay accepts a ReplayHeader that any of the secrets signed.
func (v *Verifier) VerifyReplay(body []byte, header string) error {
	return v.Verify(replayed(body), header)
}

func (v *Verifier) explain(err error, bodyBytes int) string {
	switch {
	case errors.Is(err, webhook.ErrNotSigned):
		return "there is no " + Header + " header"
	case errors.Is(err, webhook.ErrInvalidHeader):
		return "the " + Header + " header is malformed"
	case errors.Is(err, webhook.ErrTooOld):
		return fmt.Sprintf("its timestamp is missing or older than %s", v.tolerance)
	case bodyBytes == 0:
		return "the body is empty, which Stripe never signs: something before this handler may have read it"
	default:
		return "no v1 signature was made with this endpoint's signing secret over this body"
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
