// Package operations has an operator's work on a receiver's ledger, as functions. Package commands offers all of it on the
// command line.
//
//	o := operations.New(pool, &operations.Config{Applier: receiver, APIKey: key})
//	found, err := o.Reconcile(ctx, operations.ReconcileOptions{Since: 72 * time.Hour})
//
// # Looking
//
// [Operator.Events] lists the ledger, [Operator.Failures] the events whose last attempt failed, and [Operator.EventDetail] one
// event's history: its row, its failures, its payload. [Operator.FailureGroups] groups the failures by their cause. The filters
// select by type, time, account and customer, of whom [Operator.CustomerObjects] returns the objects.
//
// # Repairing
//
// [Operator.Replay] applies one event again that failed, was ignored or is parked, and [Operator.ReplayAll] those that a
// [ReplayFilter] selects. [Operator.Dismiss] is for a failed event that need not be applied. [Operator.Reconcile] lists Stripe's
// events of a time, and applies those that the ledger lacks. What applies several events stops with [ErrReceiver] where the receiver
// is the reason that they fail.
//
// All of them apply an event through an [Applier] as a delivery of it would: a [webhooks.Receiver] in this process, with
// the handlers that are registered on it, or a [Remote] receiver, to which the event is posted, signed. An event that has
// taken effect is a duplicate and changes nothing.
//
// # Importing
//
// [Operator.Backfill] imports what exists at Stripe, and continues where it was interrupted. [Operator.Runs] lists the runs that
// have something to do or had, and [Operator.StartRun] records one.
//
// # Maintaining
//
// [Operator.Prune] deletes old rows in small batches, and [Operator.Erase] the data of one customer, for good.
// [Operator.Endpoints] compares Stripe's webhook endpoints with the types that have handlers; [Operator.CreateEndpoint] and
// [Operator.UpdateEndpoint] subscribe to them.
package operations
