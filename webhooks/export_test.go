package webhooks

import "time"

// Waiting is how many events wait to share a transaction.
func (r *Receiver) Waiting() int {
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	return len(r.shared.waiting)
}

// WaitToShare has events wait so long for others before them.
func (r *Receiver) WaitToShare(limit time.Duration) { r.shared.wait = limit }
