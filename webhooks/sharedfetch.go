package webhooks

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/pook/stripeonce/internal/stripeapi"
)

const (
	// keepFetched is how long an answer is kept for events that arrived before it was requested. No event waits longer by
	// default.
	keepFetched = DefaultTimeout
	// maxFetched bounds the requests that are shared. Further ones are made without being shared.
	maxFetched = 512
)

// sharedFetches lets the thin events of one object share a request: an answer that was requested after an event arrived has
// the event's change in it. A burst of events takes two requests: one of the first event, and one for those that arrived
// while that was in progress. The zero value is ready.
type sharedFetches struct {
	mu    sync.Mutex
	byKey map[fetchKey]*sharedFetch
}

// fetchKey is everything that a request for an object depends on.
type fetchKey struct{ path, context, account, version, key, lists string }

func keyOf(req *stripeapi.Request, lists []string) fetchKey {
	return fetchKey{req.Path, req.Context, req.Account, req.Version, req.Key, strings.Join(lists, " ")}
}

// sharedFetch is a request, in progress or answered.
type sharedFetch struct {
	requested time.Time
	token     string // of who requested it
	done      chan struct{}
	answer    *Current
	err       error
}

// do returns the answer of a request that was made after a time: one that there is, or the one that fetch makes. Token is that
// of who made it.
func (s *sharedFetches) do(ctx context.Context, key fetchKey, after time.Time, token string, fetch func() (*Current, error)) (*Current, string, error) {
	s.mu.Lock()
	f := s.byKey[key]
	if f == nil && len(s.byKey) >= maxFetched {
		s.mu.Unlock()
		answer, err := fetch()
		return answer, token, err
	}
	if f == nil || !f.requested.After(after) {
		f = s.begin(key, token)
		s.mu.Unlock()
		return s.lead(key, f, fetch)
	}
	s.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
	}
	if answer, ok := f.result(); ok {
		return answer, f.token, nil
	}
	answer, err := fetch() // its own request may succeed, or has its own error
	return answer, token, err
}

func (s *sharedFetches) begin(key fetchKey, token string) *sharedFetch {
	if s.byKey == nil {
		s.byKey = map[fetchKey]*sharedFetch{}
	}
	f := &sharedFetch{requested: time.Now(), token: token, done: make(chan struct{})}
	s.byKey[key] = f
	return f
}

func (s *sharedFetches) lead(key fetchKey, f *sharedFetch, fetch func() (*Current, error)) (*Current, string, error) {
	defer func() {
		close(f.done)
		time.AfterFunc(keepFetched, func() { s.forget(key, f) })
	}()
	f.answer, f.err = fetch()
	return f.answer.clone(), f.token, f.err
}

// clone returns a copy that shares nothing: handlers may change what they are given.
func (c *Current) clone() *Current {
	if c == nil {
		return nil
	}
	copied := *c
	copied.Object = bytes.Clone(c.Object)
	return &copied
}

func (s *sharedFetches) forget(key fetchKey, f *sharedFetch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[key] == f {
		delete(s.byKey, key)
	}
}

// result returns a copy of the answer, if there is one.
func (f *sharedFetch) result() (*Current, bool) {
	select {
	case <-f.done:
	default:
		return nil, false
	}
	if f.answer == nil || f.err != nil {
		return nil, false
	}
	return f.answer.clone(), true
}
