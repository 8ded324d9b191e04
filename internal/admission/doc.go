// Package admission decides when a delivery may go on inside one process. It bounds how many deliveries are in flight
// and how much memory their bodies take, and it keeps deliveries that would only wait for each other in PostgreSQL from
// holding a connection each.
//
// The package knows nothing of events, HTTP or PostgreSQL. An event takes effect once without it, since the ledger's
// unique index and the lock of each object also work across processes. The exception is a batch: its items share a
// session, where a lock excludes nothing. Flights and Queues see to it that no two items of a batch have the same event
// or the same object, but for riders, which know of each other.
//
// # Parts
//
// A delivery meets the parts in this order:
//
//	body       Budget   bytes of all bodies       over the budget: ErrBudget
//	  |
//	delivery   Shedder  overload                  the queue is long for too long: ErrOverload
//	  |
//	delivery   Limiter  deliveries in flight      full: ErrFull, shut down: ErrClosed
//	  |
//	event      Flights  one call per event        duplicates wait for the call and take its result
//	  |
//	event      Seen     probably in the ledger?   yes: look it up before anything else
//	  |
//	object     Queues   one ticket at a time      waited too long: ErrQueueTimeout
//	  |
//	batch      Batches  group commit              not carried: a transaction of its own
//	  |
//	type       Bulkhead connections of one type   waited too long: ErrBulkhead
//
// [Limiter], [Budget] and [Shedder] are the limits. None waits: they refuse at once, so that Stripe retries later. The byte
// budget comes first, since a body is read before its signature can be checked, and only a verified event counts as a
// delivery in flight. An event that comes from elsewhere, such as a replay, has no body and begins at the Shedder.
//
// [Flights] is the single flight of duplicates. The first delivery of an event leads a call, and the others follow it
// without a connection.
//
// [Seen] is a hint. A hit makes a look-up in the ledger worthwhile before the delivery waits in a queue.
//
// [Queues] holds one in-process queue per object, so that events about the same object follow one another. What waits there
// may ride in the batch of the one before it.
//
// [Shedder] measures the waits for what comes after the queues, and refuses before the byte budget and the Limiter.
//
// [Bulkhead] keeps a slow type from holding all connections of the pool.
//
// [Batches] is the group commit. A delivery never waits for others to arrive: it waits only while the permitted number
// of batches is in progress.
//
// # Releasing
//
// Release in reverse order of acquiring, with defer, so that a panic and runtime.Goexit release too. A Limiter may be
// released later than the response is sent, when work outlasts the response. A ticket is released when the transaction
// has ended, since the lock of the object is free only then.
//
// # Adding a limit
//
// Another limit, such as one per account, is another file with its test. Where it goes:
//
//   - A limit that refuses at once goes next to the Limiter, before anything that waits.
//   - A limit that waits goes after the Limiter, which then bounds the waiting deliveries too.
//   - A limit that duplicates need not pass goes after Flights.
//   - A limit that holds a connection goes last. Nothing may wait in a queue while it holds a connection.
//
// In package webhooks, a limit on events goes into apply.go, and a release that must wait for handlers that outlive the
// response goes through Receiver.finish. InTx passes it too. A refusal after Flights must finish the call, so that the
// duplicates get it as well.
//
// What it must guarantee:
//
//   - Every acquired thing is released exactly once, whatever the order of timeout, cancellation and acquisition.
//   - A wait ends with its context and with a limit of its own, and leaves nothing behind.
//   - Its error is a sentinel, whose text names what is full and the setting that bounds it. The caller wraps it in
//     webhooks.ErrUnavailable, so that the response is 503 and Stripe retries.
package admission
