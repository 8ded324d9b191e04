// Package delivery delivers events as Stripe does: signed, over HTTP, without following redirects.
package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/pook/stripeonce/internal/signing"
	"github.com/pook/stripeonce/webhooks"
)

// DefaultTimeout is how long a Sender waits for a response.
const DefaultTimeout = 30 * time.Second

const maxReplyText = 4 << 10

// Sender posts to one endpoint. Create it with NewSender.
type Sender struct {
	url    string
	secret string
	client *http.Client
}

// Reply is the endpoint's response.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte // trimmed, and cut to 4 KiB
}

// NewSender returns a Sender that keeps up to connections connections open.
func NewSender(url, secret string, connections int) *Sender {
	transport := &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections}
	return &Sender{url: url, secret: secret, client: &http.Client{
		Transport: transport,
		Timeout:   DefaultTimeout,
		// A redirect is a failure, as it is for Stripe.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// SetTimeout sets how long to wait for a response. Call it before the first one.
func (s *Sender) SetTimeout(timeout time.Duration) { s.client.Timeout = timeout }

// Close closes the idle connections.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Send signs a body with the current time and posts it. If the response's body ends too early, both the reply and the error are
// set.
func (s *Sender) Send(ctx context.Context, body []byte) (Reply, error) {
	return s.Post(ctx, body, signing.Sign(body, s.secret))
}

// Replay is Send for an operator: the event is applied even if it is parked.
func (s *Sender) Replay(ctx context.Context, body []byte) (Reply, error) {
	return s.post(ctx, body, signing.Sign(body, s.secret), signing.SignReplay(body, s.secret))
}

// Post posts a body with a given Stripe-Signature header.
func (s *Sender) Post(ctx context.Context, body []byte, signature string) (Reply, error) {
	return s.post(ctx, body, signature, "")
}

func (s *Sender) post(ctx context.Context, body []byte, signature, replay string) (Reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return Reply{}, err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if signature != "" {
		req.Header.Set(signing.Header, signature)
	}
	if replay != "" {
		req.Header.Set(signing.ReplayHeader, replay)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyText))
	return Reply{resp.StatusCode, resp.Header, bytes.TrimSpace(text)}, err
}

// OK reports whether the status is a 2xx, the only response that Stripe does not retry.
func (r Reply) OK() bool { return r.Status/100 == 2 }

// Outcome returns the outcome in the body of a 200, or "" for another response.
func (r Reply) Outcome() webhooks.Outcome {
	var result webhooks.Result
	if r.Status != http.StatusOK || json.Unmarshal(r.Body, &result) != nil {
		return ""
	}
	return result.Outcome
}

func (r Reply) String() string {
	text := strconv.Itoa(r.Status)
	if location := r.Header.Get("Location"); r.Status/100 == 3 && location != "" {
		text += " to " + location
	}
	if len(r.Body) > 0 {
		text += " " + string(r.Body)
	}
	return text
}
