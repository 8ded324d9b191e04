package webhooks

import (
	"errors"
	"net/http"

	"github.com/pook/stripeonce/internal/fault"
)

// reply maps an error to the status and the text that the sender sees. accepted says that the delivery was a genuine
// event: from there on nothing is the sender's mistake, and the detail is for the log alone.
func reply(err error, accepted bool) (status int, text string) {
	if !accepted {
		switch {
		case errors.Is(err, errMethod):
			return http.StatusMethodNotAllowed, err.Error()
		case errors.Is(err, errNoAccount):
			return http.StatusNotFound, err.Error()
		case errors.Is(err, errBodyTooLarge):
			return http.StatusRequestEntityTooLarge, err.Error()
		case errors.Is(err, ErrInvalidSignature), errors.Is(err, ErrInvalidEvent):
			return http.StatusBadRequest, err.Error()
		}
	}
	switch {
	case !fault.IsInfrastructure(err) && errors.Is(err, ErrTimeout):
		return http.StatusInternalServerError, "processing the event took too long"
	case !fault.IsInfrastructure(err):
		return http.StatusInternalServerError, "processing the event failed"
	case errors.Is(err, ErrNotMigrated):
		return http.StatusServiceUnavailable, ErrNotMigrated.Error()
	case errors.Is(err, ErrShutdown):
		return http.StatusServiceUnavailable, ErrShutdown.Error()
	default:
		return http.StatusServiceUnavailable, "temporarily unavailable, try again"
	}
}
