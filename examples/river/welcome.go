// Package river sends an e-mail when a customer's subscription begins. It enqueues a River job
// (https://riverqueue.com) in the event's transaction. The job exists if and only if the event took effect, and River
// works on it after the commit, on any number of machines.
package river

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Welcome is the job that sends the e-mail.
type Welcome struct {
	CustomerID     string `json:"customer_id"`
	SubscriptionID string `json:"subscription_id"`
}

// Kind returns the job's name in River's tables.
func (Welcome) Kind() string { return "welcome" }

// Mailer sends e-mails. It receives an idempotency key, by which it can recognize an e-mail that it has sent before: as
// with any queue, a worker may die after sending and before River records it. Postmark, SES and others take such a key.
type Mailer interface {
	Send(ctx context.Context, customerID, idempotencyKey string) error
}

// Worker works Welcome jobs.
type Worker struct {
	river.WorkerDefaults[Welcome]
	Mailer Mailer
}

// Work sends the e-mail.
func (w *Worker) Work(ctx context.Context, job *river.Job[Welcome]) error {
	return w.Mailer.Send(ctx, job.Args.CustomerID, job.Args.Kind()+" "+job.Args.SubscriptionID)
}

// Register registers a handler that enqueues a job when a subscription becomes active or trialing.
func Register(h *webhooks.Handlers, jobs *river.Client[pgx.Tx]) {
	subscriptions.Register(h, &subscriptions.Config{
		OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
			if !c.Activated() {
				return nil
			}
			_, err := jobs.InsertTx(ctx, tx, Welcome{CustomerID: c.After.CustomerID, SubscriptionID: c.After.ID}, nil)
			return err
		},
	})
}
