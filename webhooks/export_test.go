package webhooks

// Waiting is how many events wait to share a transaction.
func (r *Receiver) Waiting() int {
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	return len(r.shared.waiting)
}
