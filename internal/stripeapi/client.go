// Package stripeapi asks Stripe's API through stripe-go's HTTP client and keeps the answers as they came:
// stripe-go's structs drop what is newer than they are.
package stripeapi

import (
	"context"
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
)

// The waiting between tries where the answer does not say how long: the mean of the first, doubled from
// try to try up to the longest.
const (
	firstWait   = 500 * time.Millisecond
	longestWait = 30 * time.Second
	// longestRetryAfter bounds what Stripe may ask for.
	longestRetryAfter = 10 * time.Minute
)

// What is asked neither on the path of a delivery nor for one may take its time.
const (
	BackgroundTimeout  = 30 * time.Second
	BackgroundAttempts = 8
)

// Config configures a Client.
type Config struct {
	// Key is a secret or restricted key. White space around it is trimmed.
	Key  string
	Base string // another address of the API; empty: Stripe's
	// Timeout bounds one try, its body included.
	Timeout time.Duration
	// Attempts is how often a request is tried that is answered 429 or 5xx or not at all. stripe-go does
	// not try again after a 429, and sleeps without heeding the context. 0 and 1: once.
	Attempts int
	// Logger is told before each pause why and for how long. Nil: nobody is.
	Logger *slog.Logger
}

// Client is one key's way to the API. Create it with New.
type Client struct {
	config  Config
	backend stripe.Backend
}

// New makes a client. It does not connect.
func New(config Config) *Client {
	config.Key = strings.TrimSpace(config.Key)
	settings := &stripe.BackendConfig{
		HTTPClient:        &http.Client{Timeout: config.Timeout},
		MaxNetworkRetries: stripe.Int64(0),
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		EnableTelemetry:   stripe.Bool(false),
	}
	if config.Base != "" {
		settings.URL = stripe.String(strings.TrimSuffix(config.Base, "/"))
	}
	return &Client{config, stripe.GetBackendWithConfig(stripe.APIBackend, settings)}
}

// Request is one request. The zero Method is GET.
type Request struct {
	Method  string
	Path    string // such as /v1/events
	Values  url.Values
	Account string // the connected account that is asked about, if any
	Version string // the API version to ask in; empty: stripe-go's
}

// Answer is a 2xx.
type Answer struct {
	Body    []byte
	Date    time.Time // of the header, in whole seconds
	Version string    // that Body is rendered in
}

// raw keeps of an answer only its bytes and headers.
type raw struct{ stripe.APIResource }

func (*raw) UnmarshalJSON([]byte) error { return nil }

// Do asks, and asks again while the answer is one that a later try may change. The error is a
// *stripe.Error if Stripe refused.
func (c *Client) Do(ctx context.Context, req Request) (*Answer, error) {
	key := stripe.NewIdempotencyKey() // one for all tries
	for try := 1; ; try++ {
		answer, err := c.once(ctx, req, key)
		if err == nil || try >= c.config.Attempts || ctx.Err() != nil || !mayPass(err) {
			return answer, err
		}
		pause := pauseAfter(err, try)
		if c.config.Logger != nil {
			c.config.Logger.WarnContext(ctx, "Stripe's API is asked again", "in", pause, "reason", Explain(err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

func (c *Client) once(ctx context.Context, req Request, key string) (*Answer, error) {
	params := &stripe.Params{Context: ctx, Headers: http.Header{}}
	if req.Version != "" {
		params.Headers.Set("Stripe-Version", req.Version)
	}
	if req.Account != "" {
		params.SetStripeAccount(req.Account)
	}
	method := req.Method
	if method == "" {
		method = http.MethodGet
	} else {
		params.SetIdempotencyKey(key)
	}
	values := &form.Values{}
	for name, list := range req.Values {
		for _, value := range list {
			values.Add(name, value)
		}
	}
	answer := &raw{}
	if err := c.backend.CallRaw(method, req.Path, c.config.Key, values, params, answer); err != nil {
		return nil, err
	}
	date, err := http.ParseTime(answer.LastResponse.Header.Get("Date"))
	if err != nil {
		date = time.Now().Truncate(time.Second)
	}
	version := req.Version
	if version == "" {
		version = stripe.APIVersion
	}
	return &Answer{answer.LastResponse.RawJSON, date.UTC(), version}, nil
}

// mayPass is true for what Stripe asks to try again: https://docs.stripe.com/error-low-level.
func mayPass(err error) bool {
	status := Status(err)
	return status == 0 || status == http.StatusConflict || status == http.StatusTooManyRequests || status >= 500
}

// pauseAfter is what the answer's Retry-After says, in seconds, else its own.
func pauseAfter(err error, try int) time.Duration {
	var refusal *stripe.Error
	if errors.As(err, &refusal) && refusal.LastResponse != nil {
		seconds, err := strconv.Atoi(refusal.LastResponse.Header.Get("Retry-After"))
		if err == nil && seconds >= 0 {
			return min(time.Duration(seconds)*time.Second, longestRetryAfter)
		}
	}
	pause := min(firstWait<<min(try-1, 10), longestWait)
	return pause/2 + rand.N(pause)/2
}

// Status is the status of Stripe's refusal, 0 if there was no answer.
func Status(err error) int {
	var refusal *stripe.Error
	if errors.As(err, &refusal) {
		return refusal.HTTPStatusCode
	}
	return 0
}

// IsMissing is true if Stripe does not have what was asked for.
func IsMissing(err error) bool { return Status(err) == http.StatusNotFound }

// Explain is an error in words for a person, without the JSON that stripe-go makes of a refusal.
func Explain(err error) error {
	var refusal *stripe.Error
	if !errors.As(err, &refusal) {
		return err
	}
	return fmt.Errorf("Stripe answers %d: %s", refusal.HTTPStatusCode, refusal.Msg) //nolint:staticcheck // a name
}

// Mode is the mode of a key, and whether it says so. See https://docs.stripe.com/keys.
func Mode(key string) (livemode, known bool) {
	key = strings.TrimSpace(key)
	for _, prefix := range []string{"sk_", "rk_"} {
		switch {
		case strings.HasPrefix(key, prefix+"live_"):
			return true, true
		case strings.HasPrefix(key, prefix+"test_"):
			return false, true
		}
	}
	return false, false
}
