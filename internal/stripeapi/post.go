package stripeapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v79"
)

// maxAnswer bounds the body of an answer of /v2.
const maxAnswer = 16 << 20

// post posts a JSON body to /v2, which stripe-go v79 cannot do.
func (c *Client) post(ctx context.Context, req Request, params *stripe.Params) (*Response, error) {
	body, err := json.Marshal(req.JSON)
	if err != nil {
		return nil, err
	}
	base := cmp.Or(strings.TrimSuffix(c.config.Base, "/"), stripe.APIURL)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+req.Path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header = params.Headers.Clone()
	request.Header.Set("Authorization", "Bearer "+req.Key)
	request.Header.Set("Content-Type", "application/json")
	if params.IdempotencyKey != nil {
		request.Header.Set("Idempotency-Key", *params.IdempotencyKey)
	}
	if params.StripeAccount != nil {
		request.Header.Set("Stripe-Account", *params.StripeAccount)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode/100 != 2 {
		return nil, refusal(answer, text)
	}
	date, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		date = time.Now().Truncate(time.Second)
	}
	return &Response{text, date.UTC(), cmp.Or(answer.Header.Get(versionHeader), req.Version)}, nil
}

// refusal is Stripe's error response, as stripe-go has it.
func refusal(answer *http.Response, text []byte) error {
	var body struct {
		Error *stripe.Error `json:"error"`
	}
	if json.Unmarshal(text, &body) != nil || body.Error == nil {
		body.Error = &stripe.Error{Msg: fmt.Sprintf("no error object, but %.80q", text)}
	}
	body.Error.HTTPStatusCode = answer.StatusCode
	body.Error.LastResponse = &stripe.APIResponse{Header: answer.Header, StatusCode: answer.StatusCode}
	return body.Error
}
