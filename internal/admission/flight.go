package admission

import "sync"

// Flights is the single flight of duplicates: among the callers that join the same key at the same time, the first leads
// a call, and the others follow it and take its result. Its zero value is ready to use. It is safe for concurrent use.
//
//	call, leads := flights.Join(eventID)
//	if leads {
//		defer func() { flights.Finish(eventID, call, result) }()
//		…
//	}
//	select {
//	case <-call.Done():
//		return call.Result()
//	case <-ctx.Done(): // a follower may give up at any time
//	}
type Flights[R any] struct {
	mu    sync.Mutex
	calls map[string]*Call[R] // in progress
}

// Call is the work of a leader, and its result.
type Call[R any] struct {
	done      chan struct{}
	result    R
	followers int // that have joined, guarded by the Flights
}

// Join returns the call of the key that is in progress. If there is none, it returns a new one with leads set, and the
// caller must finish it: without Finish the followers wait forever.
func (f *Flights[R]) Join(key string) (call *Call[R], leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if call := f.calls[key]; call != nil {
		call.followers++
		return call, false
	}
	if f.calls == nil {
		f.calls = make(map[string]*Call[R])
	}
	call = &Call[R]{done: make(chan struct{})}
	f.calls[key] = call
	return call, true
}

// Followers returns how many callers have joined the key's call in progress, beside its leader.
func (f *Flights[R]) Followers(key string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if call := f.calls[key]; call != nil {
		return call.followers
	}
	return 0
}

// Finish ends the call that the caller leads, and gives its followers the result. The key is
// free before the followers wake, so that a follower that cannot use the result and joins again leads a new call. Only
// the leader may call Finish, once.
func (f *Flights[R]) Finish(key string, call *Call[R], result R) {
	f.mu.Lock()
	delete(f.calls, key)
	f.mu.Unlock()
	call.result = result
	close(call.done)
}

// Done returns a channel that is closed when the call has a result.
func (c *Call[R]) Done() <-chan struct{} { return c.done }

// Result returns the result of the call. It is valid once Done is closed.
func (c *Call[R]) Result() R { return c.result }
