// Package river sends an e-mail when a customer's subscription begins: by a job of River
// (https://riverqueue.com) that is enqueued in the event's transaction. The job is there if and only if the event
// took effect, and River works on it after the commit, on as many machines as there are.
package river

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Welcome is a job.
type Welcome struct {
	CustomerID     string `json:"customer_id"`
	SubscriptionID string `json:"subscription_id"`
}

// Kind is the job's name in River's tables.
func (Welcome) Kind() string { return "welcome" }

// Mailer sends e-mails. It gets a key by which it can recognise a mail that it has sent before: a worker may die
// after sending and before River notes it, as with any queue. Postmark, SES and others take one.
type Mailer interface {
	Send(ctx context.Context, customerID, idempotencyKey string) error
}

// Worker works on Welcome jobs.
type Worker struct {
	river.WorkerDefaults[Welcome]
	Mailer Mailer
}

// Work sends the e-mail.
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
