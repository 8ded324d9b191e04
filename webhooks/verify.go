package webhooks

import (
	"errors"
	"fmt"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"
)

// SignatureHeader is the header in which Stripe signs a delivery.
// See https://docs.stripe.com/webhooks#verify-official-libraries.
const SignatureHeader = "Stripe-Signature"

// MaxSignatureBytes is how long a Stripe-Signature header may be, which bounds the work of checking it.
// Stripe puts one signature of 68 bytes into it for each secret that is in force.
const MaxSignatureBytes = 4096

// verify accepts a body that any of the secrets signed. The check itself, in constant time, is
// stripe-go's; the event's API version plays no part in it.
func (r *Receiver) verify(body []byte, header string) error {
	if len(header) > MaxSignatureBytes {
		return fmt.Errorf("%w: the %s header is longer than %d bytes", ErrInvalidSignature, SignatureHeader, MaxSignatureBytes)
	}
	var err error
	for _, secret := range r.secrets {
		if err = webhook.ValidatePayloadWithTolerance(body, header, secret.key, r.config.Tolerance); err == nil {
			secret.match(time.Now())
			return nil
		}
	}
	return fmt.Errorf("%w: %s", ErrInvalidSignature, r.explain(err, len(body)))
}

// ReplayHeader is the header by which a delivery asks that the event be applied although it is parked, as Receiver.Replay
// does. Stripe does not send it. Its value, SignReplay's, has the form of a Stripe-Signature and is made with a signing
// secret of the receiver's, so that nobody else can add it to a delivery of Stripe's.
const ReplayHeader = "Stripeonce-Replay"

// SignReplay makes the ReplayHeader for a body.
func SignReplay(body []byte, secret string) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: replayed(body), Secret: secret}).Header
}

// replayed is what the ReplayHeader signs: not what the Stripe-Signature does.
func replayed(body []byte) []byte { return append([]byte("stripeonce replay "), body...) }

// explain says what is wrong with a signature and where to look, in words for the sender.
func (r *Receiver) explain(err error, bodyBytes int) string {
	switch {
	case errors.Is(err, webhook.ErrNotSigned):
		return "there is no " + SignatureHeader + " header"
	case errors.Is(err, webhook.ErrInvalidHeader):
		return "the " + SignatureHeader + " header is malformed"
	case errors.Is(err, webhook.ErrTooOld):
		return fmt.Sprintf("its timestamp is missing or older than %s", r.config.Tolerance)
	case bodyBytes == 0:
		return "the body is empty, which Stripe never signs: something before this handler may have read it"
	default:
		return "no v1 signature was made with this endpoint's signing secret over this body"
	}
}
