// Package commands adds stripeonce's operator commands to your own program, as a tree of cobra commands. There they run the handlers
// that your deliveries run:
//
//	root.AddCommand(commands.New(&commands.Config{Open: openHost}))
//	os.Exit(commands.Execute(ctx, root))
//
// The result is "myapp stripe failures", "myapp stripe replay EVENT" and so on. The program stripeonce has the same commands.
//
// # Commands
//
//	events      list received events, or show one event
//	failures    list failing and parked events, their groups, or one of them; "failures dismiss" records that one need not be applied
//	replay      apply events that failed, were ignored or are parked
//	reprocess   run handlers again for events that took effect
//	reconcile   find events at Stripe that never arrived, and apply them
//	verify      compare the tables with Stripe; --fix stores Stripe's objects
//	backfill    import what exists at Stripe
//	endpoint    show, create and update Stripe's webhook endpoints
//	prune       delete old rows of the ledger
//	erase       remove a customer's data
//	runs        list the runs of these commands
//
// # Which handlers run
//
// The program stripeonce does not contain your handlers. Events that it applies would skip them for good, so every command that applies
// events requires --to (the URL of the running receiver) or --here (this process). In your own program, with a nil Config.Remote,
// commands apply events in their own process.
//
// # Output and exit codes
//
// Every command takes --json: one JSON object a line on standard output. Logs go to standard error. [Execute] returns 0; 1 if the
// work failed, drift is left or an event still fails; 2 for wrong use and for a refusal.
package commands
