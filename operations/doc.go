// Package operations repairs and maintains what a receiver has stored: it lists and replays failed events, finds events that never
// arrived, imports existing objects, and deletes old data. Package commands offers all of it on the command line.
//
//	o := operations.New(pool, &operations.Config{Applier: receiver, APIKey: key})
//	result, err := o.Reconcile(ctx, operations.ReconcileOptions{Since: 72 * time.Hour})
//
// # The ledger
//
// The ledger is the table stripe_webhook_events, with a row for each event that was received. A failed event has a record in
// stripe_webhook_failures instead, until it is applied. [Operator.Events] lists the ledger, [Operator.Failures] the failing and parked
// events, and [Operator.FailureGroups] groups these by type and error. [Operator.EventDetail] returns both rows of one event.
//
// # Applying events again
//
//   - [Operator.Replay] applies one event that failed, was ignored or is parked, and [Operator.ReplayAll] all events that a
//     [ReplayFilter] selects.
//   - [Operator.Reconcile] finds events at Stripe that the ledger lacks, and applies them. [Operator.ReconcileEvery] does so in the
//     background.
//   - [Operator.RetryFailed] retries failing events in the background, for longer than Stripe's three days.
//   - [Operator.Reprocess] runs handlers again for events that took effect, after a bug in a handler was fixed.
//   - [Operator.Dismiss] and [Operator.DismissGroup] record that failed events need not be applied.
//
// All of them apply an event through an [Applier], as a delivery would: a [webhooks.Receiver] in this process with its handlers, or a
// [Remote], which posts the signed event to a running receiver. An event that has taken effect is a duplicate and changes nothing.
//
// # Importing and comparing
//
// [Operator.Backfill] imports what exists at Stripe, and resumes an interrupted import. [Operator.VerifyEvery] compares the stored
// objects with Stripe in the background.
//
// # Maintaining
//
// [Operator.Prune] deletes old rows, and [Operator.Erase] the data of one customer. [Operator.Endpoints] compares Stripe's webhook
// endpoints with the event types that have handlers; [Operator.CreateEndpoint] and [Operator.UpdateEndpoint] subscribe to them.
//
// # Runs
//
// Runs that had something to do are recorded in the table stripe_webhook_runs, with their operator, reason and counts.
// [Operator.Runs] lists these records. [Operator.StartRun] records work of your own.
package operations
