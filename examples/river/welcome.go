// Package river sends an email when a customer's subscription begins, with a River job (https://riverqueue.com) that is
// enqueued in the event's transaction. The job exists if and only if the event took effect, and River runs it after the
// commit.
package river

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Welcome has the arguments of a job that sends a welcome email.
type Welcome struct {
	CustomerID     string `json:"customer_id"`
	SubscriptionID string `json:"subscription_id"`
}

// Kind returns the job's name in River's tables.
func (Welcome) Kind() string { return "welcome" }

// Mailer sends emails. It receives an idempotency key: a worker may die after sending and before River records that, as
// with any queue.
type Mailer interface {
	Send(ctx context.Context, customerID, idempotencyKey string) error
}

// Worker runs Welcome jobs.
type Worker struct {
	river.WorkerDefaults[Welcome]
	Mailer Mailer
}

// Work sends the email.
func (w *Worker) Work(ctx context.Context, job *river.Job[Welcome]) error {
	return w.Mailer.Send(ctx, job.Args.CustomerID, job.Args.Kind()+" "+job.Args.SubscriptionID)
}

// Register enqueues a job when a subscription becomes active or trialing.
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
