package webhooks

import (
	"errors"
	"fmt"

	"github.com/stripe/stripe-go/v79/webhook"
)

// SignatureHeader is the header in which Stripe signs a delivery.
// See https://docs.stripe.com/webhooks#verify-official-libraries.
const SignatureHeader = "Stripe-Signature"

// verify accepts a body that any of the secrets signed. The check itself, in constant time, is
// stripe-go's; the event's API version plays no part in it.
func (r *Receiver) verify(body []byte, header string) error {
	var err error
	for _, secret := range r.config.Secrets {
		if err = webhook.ValidatePayloadWithTolerance(body, header, secret, r.config.Tolerance); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", ErrInvalidSignature, r.explain(err, len(body)))
}

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
