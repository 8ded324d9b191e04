package webhooks

import (
	"time"

	"github.com/pook/stripeonce/internal/admission"
	"github.com/pook/stripeonce/internal/erasure"
)

// Waiting is how many events wait to join a batch.
func (r *Receiver) Waiting() int { return r.batches.Waiting() }

// Queued is how many events wait for another one of their object.
func (r *Receiver) Queued() int { return r.objects.Waiting() }

// WaitingForSavepoint is how many events wait to join a batch in which handlers run.
func (r *Receiver) WaitingForSavepoint() int { return r.hostBatches.Waiting() }

// Followers is how many concurrent duplicates follow an event in progress.
func (r *Receiver) Followers(eventID string) int { return r.flights.Followers(eventID + "\x00") }

// Places is how many connections the events of a type are taken to hold.
func (r *Receiver) Places(eventType string) int { return r.bulkhead.Holding(eventType) }

// WaitingForConnection is how many deliveries are taken to wait for a connection.
func (r *Receiver) WaitingForConnection() int { return r.shedder.Waiting() }

// WaitingForLookup is how many deliveries wait for a lookup that they share.
func (r *Receiver) WaitingForLookup() int { return r.lookups.Waiting() }

// WaitForBatch has events wait so long for a batch to begin, and to ride in one.
func (r *Receiver) WaitForBatch(limit time.Duration) {
	r.rideWait = limit
	r.lookups = admission.NewBatches[*lookup](r.config.ConcurrentBatches, r.config.MaxBatchSize, limit)
	r.batches = admission.NewBatches[*delivery](r.config.ConcurrentBatches, r.config.MaxBatchSize, limit)
	r.hostBatches = admission.NewBatches[*delivery](r.config.ConcurrentBatches, r.config.MaxBatchSize, limit)
}

// ForgetErasures has the next delivery look whether there are erasures, as it does a minute after the last look.
func (r *Receiver) ForgetErasures() { r.erasures = erasure.Flag{} }
