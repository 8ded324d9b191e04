// Package stripeapi makes requests to Stripe's API with stripe-go's HTTP client. It keeps the raw responses, since
// stripe-go's structs drop members that they do not know.
package stripeapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v79"
	"github.com/stripe/stripe-go/v79/form"
	"golang.org/x/time/rate"
)

// The bounds of the pauses between attempts without a Retry-After. A pause is between a half and the whole of its bound,
// which is firstWait at first and doubles after each attempt, up to longestWait.
const (
	firstWait   = 500 * time.Millisecond
	longestWait = 30 * time.Second
	// longestRetryAfter bounds Retry-After.
	longestRetryAfter = 10 * time.Minute
)

// The defaults of requests outside of deliveries, which may take longer.
const (
	BackgroundTimeout  = 30 * time.Second
	BackgroundAttempts = 8
)

// Version is the API version of requests to /v2, and of those with an organization's key: both need one. It is the newest
// that this program was built for. The version of stripe-go v79 has no events about v1 resources.
const Version = "2026-09-30.endive"

// Config configures a Client.
type Config struct {
	// Key is a secret or restricted key. White space around it is trimmed.
	Key  string
	Base string // another address of the API; empty: Stripe's
	// Timeout bounds one attempt, including the response body.
	Timeout time.Duration
	// Attempts is how often a request is attempted if Stripe answers 429 or 5xx, or does not answer. stripe-go itself does
	// not retry a 429, and does not honor the context while it sleeps. 0 and 1: no retry.
	Attempts int
	// Account is the connected account of requests that name none. Empty: none.
	Account string
	// Own is the id of the key's own account, which is never sent. Empty: not known.
	Own string
	// Rate bounds the requests per second. 0: no bound.
	Rate int
	// Logger receives a warning before each retry. Optional.
	Logger *slog.Logger
}

// Client makes requests with one key. Create it with New.
type Client struct {
	config  Config
	http    *http.Client
	backend stripe.Backend
	limiter *rate.Limiter
}

// New returns a Client. It does not connect.
func New(config Config) *Client {
	config.Key = strings.TrimSpace(config.Key)
	settings := &stripe.BackendConfig{
		HTTPClient:        &http.Client{Timeout: config.Timeout, Transport: transport{}},
		MaxNetworkRetries: stripe.Int64(0),
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		EnableTelemetry:   stripe.Bool(false),
	}
	if config.Base != "" {
		settings.URL = stripe.String(strings.TrimSuffix(config.Base, "/"))
	}
	limit := rate.Inf
	if config.Rate > 0 {
		limit = rate.Limit(config.Rate)
	}
	return &Client{config, settings.HTTPClient, stripe.GetBackendWithConfig(stripe.APIBackend, settings), rate.NewLimiter(limit, max(config.Rate, 1))}
}

// URL returns the URL of a path of the API.
func (c *Client) URL(path string) string {
	return cmp.Or(strings.TrimSuffix(c.config.Base, "/"), stripe.APIURL) + path
}

// Request is one request. The zero Method is GET.
type Request struct {
	Method  string
	Path    string // such as /v1/events
	Values  url.Values
	JSON    any    // the body of a request to /v2, in place of Values
	Account string // the connected account (Stripe-Account), if any
	Context string // the account's path (Stripe-Context), such as org_…/acct_…, in place of Account
	Version string // the API version; empty: the account's, and Version where one is needed
	Key     string // in place of Config.Key; empty: that
	Event   string // the id of the event that the request is for, which Stripe's logs then show; empty: none
}

// Response is a 2xx response.
type Response struct {
	Body    []byte
	Date    time.Time // from the header, in whole seconds
	Version string    // the API version of Body; empty: not known
}

// transport sends no header Stripe-Version that is empty: stripe-go itself always sends its own version.
type transport struct{}

func (transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if list, set := req.Header[versionHeader]; set && strings.Join(list, "") == "" {
		req = req.Clone(req.Context())
		req.Header.Del(versionHeader)
	}
	return http.DefaultTransport.RoundTrip(req)
}

const versionHeader = "Stripe-Version"

// raw keeps only the bytes and headers of a response.
type raw struct{ stripe.APIResource }

func (*raw) UnmarshalJSON([]byte) error { return nil }

// Do makes a request, and retries it if another attempt may succeed. The error is a *stripe.Error if Stripe refused.
func (c *Client) Do(ctx context.Context, req Request) (*Response, error) {
	key := stripe.NewIdempotencyKey() // one for all attempts
	for attempt := 1; ; attempt++ {
		response, err := c.once(ctx, req, key)
		if err == nil || attempt >= c.config.Attempts || ctx.Err() != nil || !retryable(err) {
			return response, err
		}
		pause := pauseAfter(err, attempt)
		if c.config.Logger != nil {
			c.config.Logger.WarnContext(ctx, "retrying a request to Stripe", "retry_in", pause, "error", Explain(err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

func (c *Client) once(ctx context.Context, req Request, key string) (*Response, error) {
	if err := c.limiter.Wait(ctx); err != nil {
		return nil, err
	}
	req = c.complete(req)
	params := paramsOf(ctx, &req)
	if req.Method != http.MethodGet {
		params.SetIdempotencyKey(key)
	}
	if req.JSON != nil {
		return c.post(ctx, req, params)
	}
	values := &form.Values{}
	for name, list := range req.Values {
		for _, value := range list {
			values.Add(name, value)
		}
	}
	response := &raw{}
	if err := c.backend.CallRaw(req.Method, req.Path, req.Key, values, params, response); err != nil {
		return nil, err
	}
	date, err := http.ParseTime(response.LastResponse.Header.Get("Date"))
	if err != nil {
		date = time.Now().Truncate(time.Second)
	}
	version := cmp.Or(response.LastResponse.Header.Get(versionHeader), req.Version)
	return &Response{response.LastResponse.RawJSON, date.UTC(), version}, nil
}

// complete sets what a request leaves to the client. An organization's key has no account of its own, so that each of its
// requests names one; any other key's own account is never named.
func (c *Client) complete(req Request) Request {
	req.Method, req.Key = cmp.Or(req.Method, http.MethodGet), cmp.Or(req.Key, c.config.Key)
	organization := OfOrganization(req.Key)
	if req.Context == "" {
		req.Account = cmp.Or(req.Account, c.config.Account)
	}
	switch {
	case organization && req.Context == "":
		req.Context = cmp.Or(req.Account, c.config.Own)
	case !organization && req.Account == c.config.Own:
		req.Account = ""
	}
	if organization || strings.HasPrefix(req.Path, "/v2/") {
		req.Version = cmp.Or(req.Version, Version)
	}
	return req
}

// paramsOf returns the headers of a request.
func paramsOf(ctx context.Context, req *Request) *stripe.Params {
	params := &stripe.Params{Context: ctx, Headers: http.Header{}}
	params.Headers.Set(versionHeader, req.Version)
	switch {
	case req.Context != "":
		params.Headers.Set("Stripe-Context", req.Context)
	case req.Account != "":
		params.SetStripeAccount(req.Account)
	}
	if req.Event != "" { // as stripe-go does since v83
		params.Headers.Set("Stripe-Request-Trigger", "event="+req.Event)
	}
	return params
}

// retryable reports whether another attempt may succeed: see https://docs.stripe.com/error-low-level. A certificate that this machine
// does not trust, such as in an image without certificates, stays so.
func retryable(err error) bool {
	if untrusted := new(tls.CertificateVerificationError); errors.As(err, &untrusted) {
		return false
	}
	status := Status(err)
	return status == 0 || status == http.StatusConflict || status == http.StatusTooManyRequests || status >= 500
}

// pauseAfter returns the response's Retry-After, or else a random pause.
func pauseAfter(err error, attempt int) time.Duration {
	var refusal *stripe.Error
	if errors.As(err, &refusal) && refusal.LastResponse != nil {
		seconds, err := strconv.Atoi(refusal.LastResponse.Header.Get("Retry-After"))
		if err == nil && seconds >= 0 {
			return min(time.Duration(seconds)*time.Second, longestRetryAfter)
		}
	}
	pause := min(firstWait<<min(attempt-1, 10), longestWait)
	return pause/2 + rand.N(pause)/2
}

// Status returns the status of Stripe's error response, or 0 if there was no response.
func Status(err error) int {
	var refusal *stripe.Error
	if errors.As(err, &refusal) {
		return refusal.HTTPStatusCode
	}
	return 0
}

// IsRefused reports whether Stripe refused the request, so that no retry helps: the key has no access, or there is no such path.
func IsRefused(err error) bool {
	status := Status(err)
	return status >= 400 && status < 500 && !retryable(err)
}

// DateOf returns the Date of Stripe's error response, or the time if there is none.
func DateOf(err error) time.Time {
	var refusal *stripe.Error
	if errors.As(err, &refusal) && refusal.LastResponse != nil {
		if date, err := http.ParseTime(refusal.LastResponse.Header.Get("Date")); err == nil {
			return date.UTC()
		}
	}
	return time.Now().UTC().Truncate(time.Second)
}

// IsMissing reports whether Stripe does not have an object that the request names: in its path (404), or as a parameter (400 with
// the code resource_missing).
func IsMissing(err error) bool {
	var refusal *stripe.Error
	return Status(err) == http.StatusNotFound || errors.As(err, &refusal) && refusal.Code == stripe.ErrorCodeResourceMissing
}

// OnlyRefusals reports whether Stripe refused (4xx), and every part of a joined error is a refusal.
func OnlyRefusals(err error) bool {
	switch joined := err.(type) { //nolint:errorlint // the parts are looked at one by one
	case interface{ Unwrap() []error }:
		for _, part := range joined.Unwrap() {
			if !OnlyRefusals(part) {
				return false
			}
		}
		return true
	case *stripe.Error:
		return IsRefused(joined)
	case interface{ Unwrap() error }:
		return OnlyRefusals(joined.Unwrap())
	}
	return false
}

// explainedError is Stripe's refusal with a readable text.
type explainedError struct{ refusal *stripe.Error }

func (e explainedError) Error() string {
	return fmt.Sprintf("Stripe answers %d: %s", e.refusal.HTTPStatusCode, e.refusal.Msg)
}
func (e explainedError) Unwrap() error { return e.refusal }

// Explain returns an error with a readable text instead of stripe-go's JSON.
func Explain(err error) error {
	var refusal *stripe.Error
	if !errors.As(err, &refusal) || errors.As(err, new(explainedError)) {
		return err
	}
	return explainedError{refusal}
}

// OfOrganization reports whether a key is an organization's, which needs a version and the context of an account.
// See https://docs.stripe.com/keys#organization-api-keys.
func OfOrganization(key string) bool { return strings.HasPrefix(key, "sk_org_") }

// Mode returns the mode of a key, and whether the key shows it. See https://docs.stripe.com/keys.
func Mode(key string) (livemode, known bool) {
	key = strings.TrimSpace(key)
	for _, prefix := range []string{"sk_", "rk_", "sk_org_"} {
		switch {
		case strings.HasPrefix(key, prefix+"live_"):
			return true, true
		case strings.HasPrefix(key, prefix+"test_"):
			return false, true
		}
	}
	return false, false
}
