package webhooks

import (
	"time"

	"github.com/pook/stripeonce/internal/admission"
)

// Waiting is how many events wait to join a batch.
func (r *Receiver) Waiting() int { return r.batches.Waiting() }

// WaitingForSavepoint is how many events wait to join a batch in which handlers run.
func (r *Receiver) WaitingForSavepoint() int { return r.savepoints.Waiting() }

// WaitForBatch has events wait so long for a batch to begin.
func (r *Receiver) WaitForBatch(limit time.Duration) {
	r.batches = admission.NewBatches[*delivery](r.config.ConcurrentBatches, r.config.MaxBatchSize, limit)
	r.savepoints = admission.NewBatches[*delivery](r.config.ConcurrentBatches, r.config.MaxBatchSize, limit)
}
