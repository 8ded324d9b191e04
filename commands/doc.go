// Package commands is the operator's commands (events, failures, replay, reconcile, verify, backfill, endpoint, prune, runs) as a
// tree of cobra commands. The program stripeonce has them. A host adds them to its own program, where they run the handlers that
// its deliveries run:
//
//	root.AddCommand(commands.New(&commands.Config{Open: openHost}))
//	os.Exit(commands.Execute(ctx, root))
//
// # Whose handlers run
//
// The program stripeonce does not contain a host's handlers, and an event that it applied would skip them for good. So
// every command that applies events requires --to (the URL of the running receiver) or --here (this process). A host's own
// program applies events in its own process.
//
// # Output and exit codes
//
// Every command takes --json: one JSON object a line on standard output. Logs go to standard error. [Execute] returns 0; 1
// if the work failed, drift is left or an event still fails; 2 for wrong use and for a refusal.
package commands
