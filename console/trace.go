package console

import (
	"errors"
	"net/url"
	"strings"
)

// traceID stands for the id of a trace in Config.TraceURL.
const traceID = "{trace_id}"

// CheckTraceURL checks a Config.TraceURL: its error says what is wrong. An empty address is valid.
func CheckTraceURL(address string) error {
	if address == "" {
		return nil
	}
	at, err := url.Parse(strings.ReplaceAll(address, traceID, "0"))
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" || !strings.Contains(address, traceID) {
		return errors.New("it is not a URL with " + traceID + " in place of a trace's id: use one such as https://jaeger.example.com/trace/" + traceID)
	}
	return nil
}

// TraceLink returns where the trace of an attempt can be looked at. Empty: that is not known.
func (d *eventData) TraceLink(id string) string {
	if CheckTraceURL(d.TraceURL) != nil || d.TraceURL == "" {
		return ""
	}
	return strings.ReplaceAll(d.TraceURL, traceID, url.PathEscape(id))
}
