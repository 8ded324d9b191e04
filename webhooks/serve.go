package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/reason"
	"github.com/pook/stripeonce/internal/signing"
)

// SignatureHeader is the header in which Stripe signs a delivery.
const SignatureHeader = "Stripe-Signature"

// ServeHTTP receives one delivery. It always writes the reply itself, as JSON: 200 with the event's id
// and outcome, or an error's status with {"error": …}. Anything but a 2xx makes Stripe deliver again.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	start := time.Now()
	var ev *Event
	source := r.bodies.Reader(http.MaxBytesReader(w, req.Body, r.config.MaxBodyBytes))
	defer source.Release()
	body, err := r.read(w, req, source)
	var verifier *signing.Verifier
	var account *Account
	if err == nil {
		verifier, account, err = r.authenticate(req)
	}
	replay := req.Header.Get(signing.ReplayHeader) != ""
	switch {
	case err != nil:
	case replay:
		err = verifier.VerifyReplay(body, req.Header.Get(SignatureHeader), req.Header.Get(signing.ReplayHeader))
	default:
		err = verifier.Verify(body, req.Header.Get(SignatureHeader))
	}
	if err == nil {
		ev, err = ParseEvent(body)
	}
	if err == nil && account != nil {
		account.of(ev)
		r.stats.verifiedAccount(replay)
	}
	r.stats.signatures.rejected(err)
	ctx := r.traceDelivery(req.Context(), start, ev, purpose{replay: replay})
	var done report
	accepted := err == nil
	if accepted {
		// Once accepted, the work goes on if the client hangs up: Apply has a deadline of its own.
		done, err = r.apply(context.WithoutCancel(ctx), ev, purpose{replay: replay})
	}
	if err != nil {
		reason.Note(ctx, safeError(cause(err)))
	}
	reason.WriteHeader(ctx, w.Header())
	status := r.answer(w, done.Result, err, accepted)
	took := time.Since(start)
	r.stats.observe(ev, label(status, done.Outcome), start, took)
	r.log(ctx, ev, status, done, took, err)
	r.endDelivery(ctx, done, status, err)
}

// cause is an error without the notice that it was a duplicate's.
func cause(err error) error {
	var duplicate *duplicateError
	if errors.As(err, &duplicate) {
		return duplicate.err
	}
	return err
}

// read returns the body of a POST.
func (r *Receiver) read(w http.ResponseWriter, req *http.Request, source io.Reader) ([]byte, error) {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, errMethod
	}
	if err := r.shedder.Admit(); err != nil { // before the body costs anything
		return nil, fault.Unavailable(err)
	}
	if req.ContentLength > r.config.MaxBodyBytes {
		return nil, r.tooLarge()
	}
	body, err := readAll(source, req.ContentLength)
	var maxBytes *http.MaxBytesError
	switch {
	case errors.As(err, &maxBytes) && maxBytes.Limit == r.config.MaxBodyBytes:
		return nil, r.tooLarge()
	case errors.As(err, &maxBytes):
		return nil, errOuterLimit(maxBytes.Limit)
	case errors.Is(err, admission.ErrBudget):
		w.Header().Set("Connection", "close") // the rest of it is not read
		return nil, fault.Unavailable(err)
	case err != nil:
		return nil, invalid("the body could not be read")
	}
	return body, nil
}

func (r *Receiver) tooLarge() error {
	return fmt.Errorf("%w: the limit is %d bytes (webhooks.Config.MaxBodyBytes)", errBodyTooLarge, r.config.MaxBodyBytes)
}

// errOuterLimit reports a limit that the application set before this handler; 0 bytes if it does not say which.
func errOuterLimit(limit int64) error {
	of := ""
	if limit > 0 {
		of = fmt.Sprintf(" of %d bytes", limit)
	}
	return fmt.Errorf("%w: a limit%s in front of this handler truncated it (Echo's BodyLimit, http.MaxBytesHandler): allow this route at least %d bytes",
		errBodyTooLarge, of, DefaultMaxBodyBytes)
}

// maxFirstBuffer bounds the memory that a request's header alone can claim. Stripe's events are smaller.
const maxFirstBuffer = 64 << 10

// readAll is io.ReadAll where the length is likely known.
func readAll(source io.Reader, length int64) ([]byte, error) {
	body := bytes.NewBuffer(make([]byte, 0, min(max(length, 0), maxFirstBuffer)+bytes.MinRead))
	_, err := body.ReadFrom(source)
	return body.Bytes(), err
}

func (r *Receiver) answer(w http.ResponseWriter, result Result, err error, accepted bool) int {
	if err == nil {
		writeJSON(w, http.StatusOK, result)
		return http.StatusOK
	}
	status, text := reply(err, accepted)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(r.config.RetryAfter.Seconds()))))
	}
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{text})
	return status
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // only for values that are no JSON, and these are structs of strings
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

// log writes the delivery's line, the only one: an error that Stripe's retry may resolve at level ERROR, a mistake of the sender's
// and an event that a handler has parked at WARN.
func (r *Receiver) log(ctx context.Context, ev *Event, status int, done report, took time.Duration, err error) {
	level := slog.LevelInfo
	switch {
	case err == nil && done.parked == nil:
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
	default:
		level = slog.LevelWarn
	}
	handler := r.config.Logger.Handler()
	if !handler.Enabled(ctx, level) {
		return
	}
	line := slog.NewRecord(time.Now(), level, "stripe delivery", logSource())
	line.AddAttrs(slog.Int("status", status), slog.Duration("took", took))
	if ev != nil {
		line.AddAttrs(slog.String("event_id", ev.ID), slog.String("event_type", ev.Type))
	}
	if err == nil {
		line.AddAttrs(slog.String("outcome", string(done.Outcome)))
		err = done.parked
	}
	if done.attempts > 0 {
		line.AddAttrs(slog.Int("attempt", int(done.attempts)))
	}
	if err != nil {
		line.AddAttrs(slog.String("error", safeError(err)))
	}
	if id := r.traceContext(ctx).TraceID; id != "" {
		line.AddAttrs(slog.String("trace_id", id))
	}
	var panicked *PanicError
	var duplicate *duplicateError
	if errors.As(err, &panicked) && !errors.As(err, &duplicate) {
		line.AddAttrs(slog.String("stack", string(panicked.Stack)))
	}
	_ = handler.Handle(ctx, line)
}

// logSource is the source location that is logged for every delivery, for a handler with AddSource: this one. Looking it up
// for each line would cost as much as writing the line.
var logSource = sync.OnceValue(func() uintptr {
	var place [1]uintptr
	runtime.Callers(1, place[:])
	return place[0]
})
