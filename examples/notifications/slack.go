package notifications

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/pook/stripeonce/webhooks"
)

// Slack returns a function that posts notices to a channel. The address is that of an incoming webhook, and a secret:
// https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.
func Slack(address string, logger *slog.Logger) func(ctx context.Context, n webhooks.Notice) {
	return func(ctx context.Context, n webhooks.Notice) {
		if err := postToSlack(ctx, address, Describe(n)); err != nil {
			logger.ErrorContext(ctx, "could not notify Slack of an event", "event_id", n.EventID, "error", err)
		}
	}
}

// slackEscapes keep a text from mentioning the channel (<!channel>) and from hiding a link: in Slack, markup of both kinds
// begins with <. Emphasis is turned off by mrkdwn.
var slackEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func postToSlack(ctx context.Context, address, text string) error {
	message := map[string]any{"text": slackEscapes.Replace(text), "mrkdwn": false, "unfurl_links": false}
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 200)) // such as invalid_token
		return fmt.Errorf("slack answers %d %s", response.StatusCode, OneLine(string(reason), 200))
	}
	return nil
}

// withoutURL returns the error without the address, which must not be logged.
func withoutURL(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}
